"""The words for a password, a key, a card in other languages' names: ``passwortNeu``, ``mot_de_passe``, ``contraseña``.

Names are written with accents or without them, so words are compared without: :func:`plain` takes them off.
"""

from __future__ import annotations

import unicodedata
from typing import Final

__all__ = ["ENDINGS", "LINKS", "PHRASES", "SUFFIXES", "WORDS", "plain"]


#: Kind to the words that tell it wherever they stand last.
_WORDS_OF: Final = {
    "password": "passwort passworter passwoerter kennwort losungswort contrasena contrasenas contrasenia senha senhas"
    " wachtwoord wachtwoorden haslo heslo losenord passord adgangskode salasana jelszo sifre mdp motdepasse parol"
    " parool пароль пароли 密码 密碼 口令 パスワード 비밀번호",
    "secret": "geheimnis geheim segredo secreto segreto секрет",
    "token": "jeton токен 令牌 トークン",
    "credential": "zugangsdaten anmeldedaten",
    "card": "kartennummer kreditkartennummer kaartnummer",
    "cvv": "prufziffer pruefziffer prufnummer pruefnummer kartenprufnummer kartenpruefnummer",
    "otp": "bestatigungscode bestaetigungscode verifizierungscode einmalcode verificatiecode inlogcode"
    " 验证码 驗證碼 校验码 認証コード 確認コード 認証番号 인증번호 인증코드",
    "pin": "geheimzahl 暗証番号",
    "private_key": "密钥 密鑰 秘密鍵",
    "phone": "telefon telefono telefone telefonnummer telefoonnummer handynummer mobilnummer rufnummer телефон",
}
WORDS: Final = {word: kind for kind, text in _WORDS_OF.items() for word in text.split()}
#: Names in one piece and words of scripts without spaces, by what they end with.
SUFFIXES: Final = (
    ("passwort", "password"), ("kennwort", "password"), ("wachtwoord", "password"), ("contrasena", "password"),
    ("motdepasse", "password"), ("пароль", "password"), ("密码", "password"), ("密碼", "password"),
    ("パスワード", "password"), ("비밀번호", "password"), ("zugangsdaten", "credential"), ("kartennummer", "card"),
    ("验证码", "otp"), ("驗證碼", "otp"), ("認証コード", "otp"), ("確認コード", "otp"), ("인증번호", "otp"),
)  # fmt: skip
#: Two words, where what something is for stands behind it.
PHRASES: Final = {
    **dict.fromkeys(("mot passe", "mots passe", "palavra passe", "parola chiave", "clave acceso"), "password"),
    **dict.fromkeys(
        ("clave secreta", "chave secreta", "cle secrete", "chiave segreta", "codice segreto", "palavra secreta"),
        "secret",
    ),
    **dict.fromkeys(("cle api", "clave api", "chave api", "chiave api", "klucz api", "chave acesso"), "api_key"),
    **dict.fromkeys(("api schlussel", "api schluessel", "api sleutel", "api nyckel"), "api_key"),
    **dict.fromkeys(("privater schlussel", "privater schluessel", "geheimer schlussel"), "private_key"),
    **dict.fromkeys(
        ("cle privee", "clave privada", "chave privada", "chiave privata", "klucz prywatny"), "private_key"
    ),
    **dict.fromkeys(("token acceso", "token acesso", "token secreto", "jeton acces"), "token"),
    **dict.fromkeys(
        (
            "codigo verificacion",
            "codigo verificacao",
            "codigo confirmacion",
            "codigo confirmacao",
            "codice verifica",
            "codice conferma",
            "kod weryfikacyjny",
            "код подтверждения",
        ),
        "otp",
    ),
    **dict.fromkeys(("numero carte", "numero carta", "numero tarjeta", "numero cartao"), "card"),
}
#: Words between the two that are left out.
LINKS: Final = frozenset({"de", "d", "di", "do", "da", "del", "della", "du", "la", "l"})
#: What may follow the telling word without changing what it tells.
ENDINGS: Final = frozenset(
    word
    for text in (
        "neu neue neues alt altes aktuell bestatigung bestaetigung bestatigen bestaetigen wiederholen wiederholung",
        "nuevo nueva anterior actual confirmar nouveau nouvelle ancien actuel nova antiga atual nuova vecchia nieuw",
        "oud",
    )
    for word in text.split()
)
#: Letters that have no accent to be taken off.
_LETTERS: Final = str.maketrans({"ł": "l", "Ł": "L", "ß": "ss", "ø": "o", "Ø": "O", "\u0131": "i", "đ": "d", "Đ": "D"})


def plain(name: str) -> str:
    """Return a name without accents, composed or not: ``contraseña``, ``hasło`` as ``contrasena``, ``haslo``.

    Example:
        >>> plain("contraseña"), plain("Prüfziffer"), plain("비밀번호")
        ('contrasena', 'Prufziffer', '비밀번호')
    """
    apart = unicodedata.normalize("NFKD", name.translate(_LETTERS))
    bare = "".join(letter for letter in apart if not "\u0300" <= letter <= "\u036f")
    return unicodedata.normalize("NFC", bare)
