"""What each kind of secret is, and what makes the redactor sure of it: the table of the documentation."""

from __future__ import annotations

from typing import Final

__all__ = ["MEANINGS"]

#: Kind to what it is and how it is told from what looks like it.
MEANINGS: Final[dict[str, str]] = {
    "anthropic": "A key of Anthropic: `sk-ant-…`.",
    "api_key": "A value under a name such as `api_key`, `access-key`; `NAME_live_…` and its like, with a digit in it.",
    "authorization": "The credentials of an `Authorization` header; its scheme stays. `Bearer …`, `Basic …` in text.",
    "aws": "An access key id of AWS: `AKIA…` and its like, with the alphabet and the length of one; keys of Bedrock,"
    " a token for EKS or of a session.",
    "azure": "A client secret of Azure: `…Q~…`; a token of Azure DevOps, keys of Azure Functions, Storage, Cosmos DB"
    " and OpenAI.",
    "card": "A payment card: the issuer's first digits, the exact length and the check digit (Luhn), in one piece, in"
    " groups, as a number; a longer run of digits is none.",
    "cookie": "The contents of `Cookie` and `Set-Cookie`.",
    "credential": "A value under a name such as `credentials`.",
    "cvv": "A value under `cvv`, `cvc`, `card_security_code`.",
    "email": "An e-mail address; `git@host:path`, `icon@2x.png`, `celery@worker-1.local` and ids of messages stay.",
    "gcp": "A key or token of Google: `AIza…`, `AQ.…`, `GOCSPX-…`, `ya29.…`, `1//0…`.",
    "github": "A token of GitHub: `ghp_…`, `github_pat_…`.",
    "gitlab": "A token of GitLab: `glpat-…` and its like.",
    "huggingface": "A token of Hugging Face: `hf_…`.",
    "iban": "An international bank account number: country, exact length, check digits (ISO 13616, mod 97).",
    "ipv4": "An IPv4 address; versions, networks, hosts of URLs and this host stay, and so do the values of"
    " `client.address`, `server.address`, `network.*`.",
    "ipv6": "An IPv6 address, under the same exceptions.",
    "jwt": "A JSON web token: its header decodes to JSON with an algorithm.",
    "mobius_key": "A key of `ApiKeyManager`, a mistyped one too.",
    "name": "A value under one of your own `names`.",
    "npm": "A token of npm: `npm_…`.",
    "openai": "A key of OpenAI: `sk-…`, `sk-proj-…`.",
    "otp": "A value under `otp`, `mfa_code`, `twoFactorCode`, `totp_seed`.",
    "password": "A value under `password`, `passwd`, `DB_PASS`, `psk`, `mot_de_passe`; `IDENTIFIED BY '…'`,"
    " `the password is …`.",
    "phone": "A telephone number as people write it (`+49 30 …`, `(415) 555-…`), or digits under `phone`, `mobile`.",
    "pin": "A value under `pin`, `pin_code`.",
    "private_key": "A key in PEM form, also cut off or in base64; a value under `private_key`."
    " Certificates and public keys stay.",
    "pypi": "A token of PyPI: `pypi-…`.",
    "secret": "A value under `secret`, `client_secret`, `SECRET_KEY_BASE`, `security_answer`.",
    "sendgrid": "A key of SendGrid: `SG.….…`.",
    "session": "A value under `session_id`, `PHPSESSID`.",
    "signature": "A value under `signature`, `sig`, `X-Amz-Signature`.",
    "slack": "A token or a webhook of Slack: `xoxb-…`, `hooks.slack.com/services/…`.",
    "ssn": "A US social security number; those that were never given out stay.",
    "stripe": "A key of Stripe: `sk_live_…`, `rk_test_…`, `whsec_…`; `pk_…` and ids stay.",
    "telegram": "A token of a Telegram bot: `123456789:AA…`.",
    "token": "A value under `token`, `access_token`, `csrf`, `code_verifier`, `SAMLResponse`; `token_count` and"
    " `next_page_token` stay.",
    "twilio": "A key of Twilio: `SK` or `AC` and 32 hexadecimal digits.",
    "url_credential": "`user:password@` in a URL or a DSN, `-u user:password`; the user stays where it has a password.",
    "vendor_token": "Tokens of further vendors, by their published shapes: DigitalOcean, Shopify, Square, Vault,"
    " Doppler, Figma, Grafana, Sentry, Docker, RubyGems, Databricks, Discord, Mailgun, Atlassian, Pulumi,"
    " Terraform Cloud, Dynatrace, Mapbox, Supabase, SonarQube, CircleCI, Microsoft Teams, OpenShift, PostHog, Netlify,"
    " Alibaba, Tencent, Plaid, PayPal, 1Password, Razorpay, Contentful, Fly.io, Octopus, Sourcegraph, Pinecone and"
    " others.",
}
