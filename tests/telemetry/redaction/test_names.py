"""Names: what tells a secret, and what only looks like it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobius_otel.telemetry.redaction import names
from mobius_otel.telemetry.redaction.names import SCAN, TRUST, NameRules

TELLING = """
password newPassword x-api-key DB_PASS card_cvv cvv2 API_KEY apikey accessToken access_token idToken PIN pin
user_pin passwd clientSecret client_secret authorization auth http.request.header.authorization Set-Cookie
cookie sessionId session_id JSESSIONID ssn iban card_number cardNumber cc-number pan privateKey secret_key
aws_secret_access_key awsSecretAccessKey AWSAccessKeyId X-Amz-Signature X-Amz-Credential
X-Amz-Security-Token sig csrf_token csrfmiddlewaretoken _csrf otp mfa_code one_time_password security_code
password_b64 token_sha256 clientSecretBase64
verificationCode passphrase password_confirmation password_hash PGPASSWORD pepper salt user[password]
DB_PASSWORD_1 OAuth2Token proxy-authorization x-auth-token AccountKey SharedAccessKey signature
x-hub-signature-256 recoveryCodes secrets credentials refresh_token bearer pAssWord api%5Fkey
primary_account_number
SECRET_KEY_BASE secretKeyBase fernetKey FERNET_KEY psk wifi_psk preSharedKey x-functions-key security_answer
twoFactorCode tfa_code 2fa_code confirmation_code authenticatorCode code_verifier oauth_verifier client_assertion
SAMLResponse samlRequest id_token_hint TF_TOKEN_app_terraform_io
cvv_code cvcCode rootpw bindpw enable_secret laravel_session verificatiecode
client-key-data GH_PAT AZURE_DEVOPS_EXT_PAT unseal_key .dockerconfigjson JWT_KEY Jwt__Key Jwt:Key Token:Key
ApiKeys:Stripe ApiKeys__Stripe Secrets:Stripe password= password: api_key=
验证码 您的验证码 認証コード código_de_verificación
""".split()  # noqa: SIM905 - a list that can be read
HARMLESS = """
author monkey token_count password_changed_at secret_rotation_days auth_method session_count compass
passenger pinned spin max_tokens token_type public_key key_id mobius.api_key.id mobius.api_key.result
authority author_id key keyboard next_page_token nextToken has_password total_tokens tokenizer
cookie_consent secretary pass_rate passed code status_code error_code order_number user_id token_expires_at
password_policy ssh_public_key idempotency_key partition_key primary_key session_duration spinner pan_zoom
signature_algorithm authenticated password_strength key_count api_key_count secret_name credential_type
pat pattern key_data ssh_key_data Jwt:Issuer Jwt:Audience Token:Audience ApiKeys:Enabled Tokens:Length
card_type card_brand account_id apiKeyId access_key_id primary_no boarding_pass gpio_pin design_token data_key

http_session db_session enable_password_reset PublicKeyToken response saml_provider assertion_count
code_challenge_method factor knowledge_base clave clavel chave_type cle_de_sol
numero passerelle parole schlüsselbund haslohn tokenkurs passwort_vergessen contraseña_olvidada größe straße naïve
密码策略 パスワード設定
""".split()  # noqa: SIM905 - a list that can be read
FOREIGN = {
    "password": "Passwort neuesPasswort passwortNeu DB_PASSWORT kennwort benutzerkennwort mot_de_passe"
    " motDePasse mot-de-passe nouveauMotDePasse mdp contraseña CONTRASEÑA contrasena"
    " nueva_contraseña contraseñaActual clave_acceso clave_de_acceso senha novaSenha"
    " palavra_passe palavraPasse wachtwoord hasło haslo HASŁO пароль ПАРОЛЬ новыйПароль"
    " parol lösenord 密码 用户密码 パスワード 비밀번호",
    "secret": "geheimnis Geheim clave_secreta claveSecreta clé_secrète cle_secrete segredo codice_segreto",
    "api_key": "clé_api cle_api cléApi clave_api chave_api chaveApi chiave_api",
    "private_key": "clé_privée clave_privada chiave_privata",
    "token": "jeton token_acesso token_de_acceso jeton_d_accès 令牌 токен",
    "credential": "zugangsdaten",
    "card": "kartennummer Kreditkartennummer numero_carte numéroDeCarte número_tarjeta",
    "cvv": "prüfziffer kartenprüfnummer pruefziffer",
}


@pytest.mark.parametrize("name", TELLING)
def test_a_telling_name_is_told_in_every_way_of_writing(name):
    """Camel case, snakes, kebabs, dots, brackets and names in one piece."""
    assert NameRules().of(name) not in (SCAN, TRUST)


@pytest.mark.parametrize("name", HARMLESS)
def test_a_look_alike_is_no_secret_name(name):
    """Words are judged whole and by their place, never as a part of another."""
    assert NameRules().of(name) in (SCAN, TRUST)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for kind, all_names in FOREIGN.items() for name in all_names.split()]
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_in_another_language_tells_the_same(name, kind, form):
    """With accents, composed or not, and without; as a word, never as a part of one."""
    assert NameRules().of(unicodedata.normalize(form, name)) == kind


@pytest.mark.parametrize("name", ["user_agent.original", "http.route", "network.peer.address", "client.address"])
def test_a_schema_name_is_trusted(name):
    """What the conventions define is not looked into."""
    assert NameRules().of(name) == TRUST


def test_a_trusted_prefix_covers_no_secret():
    """ "network." is trusted, a password under it is not."""
    assert NameRules().of("network.password") == "password"


def test_a_user_adds_names_and_trust():
    """Own names hold as the end of a longer one; own trust wins over everything."""
    rules = NameRules(names=["badge no"], trusted=["session.id", "labels.*"])
    assert rules.of("employee.badgeNo") == "name"
    assert rules.of("badge_notes") == SCAN
    assert (rules.of("Session.ID"), rules.of("labels.password")) == (TRUST, TRUST)


def test_a_text_is_no_name():
    """What ends with a telling word by chance says nothing of its neighbours."""
    for text in ("Authorization: Bearer x token", "he forgot his own long password", '{"a": "token"', "a=token"):
        assert NameRules().of(text) == SCAN


def test_what_is_said_of_a_name_in_brackets_changes_nothing():
    """Of one in the plural it may be a count."""
    rules = NameRules()
    assert (rules.of("password (new)"), rules.of("API key (old)")) == ("password", "api_key")
    assert [rules.of(name) for name in ("tokens (new)", "token (type)", "author (new)")] == [SCAN] * 3


def test_the_memory_of_names_is_bounded():
    """A flood of names is forgotten again."""
    rules = NameRules()
    for number in range(20_000):
        rules.of(f"name{number}")
    assert len(rules.known) <= 4096


@pytest.mark.parametrize(
    "value",
    ["", "****", "${DB_PASSWORD}", "{{ password }}", "%(password)s", "null", "[redacted:password]", "<password>"],
)
def test_a_placeholder_is_no_secret(value):
    """Masks, templates and nothing at all stay."""
    assert names.keeps("password", value)


def test_something_that_only_begins_like_a_marker_is_a_secret():
    """Writing a marker before a secret hides nothing from the redactor."""
    assert not names.keeps("password", "[redacted:password] hunter2")


@given(st.text(max_size=300))
def test_no_name_breaks_the_rules(name):
    """Whatever a key is called, it gets an answer."""
    assert isinstance(NameRules(names=["x y"]).of(name), str)
