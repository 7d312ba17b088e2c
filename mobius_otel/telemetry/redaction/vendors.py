"""The shapes of vendors' tokens, as they publish them."""

from __future__ import annotations

import base64
import re

__all__ = ["ANYWHERE", "BEGINNINGS", "DOTTED", "JOINED", "PLACES"]

#: What goes on the first line of a private key in base64, behind "-----BEGIN ".
_KEYS = "|".join(
    base64.b64encode(begin[: len(begin) // 3 * 3])[15:].decode()
    for label in ("", "RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED ", "PGP ")
    for begin in [f"-----BEGIN {label}PRIVATE KEY".encode()]
)
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: Kind, what a token begins with, and the rest of it. Prefixes of one first letter become one branch of the pattern,
#: so that a text is searched once, quickly, and not once for every vendor.
BEGINNINGS = (
    ("aws", "AKIA ASIA ABIA ACCA", r"[A-Z2-7]{16}(?![A-Z0-9])"),
    ("aws", "ABSK", r"[0-9A-Za-z+/]{109,269}+={0,2}"),
    ("aws", "amzn.mws.", _UUID),
    ("aws", "k8s-aws-v1.", r"[0-9A-Za-z_\-]{100,4000}+"),
    ("aws", "bedrock-api-key-", r"[0-9A-Za-z+/_\-]{100,4000}+={0,2}"),
    ("gcp", "AQ.Ab8", r"[0-9A-Za-z_\-]{40,60}+"),
    ("gcp", "AIza", r"[0-9A-Za-z_\-]{35}"),
    ("gcp", "GOCSPX-", r"[0-9A-Za-z_\-]{20,40}+"),
    ("gcp", "ya29.", r"[0-9A-Za-z_\-.]{20,2000}+"),
    ("gcp", "1//0", r"[0-9A-Za-z_\-]{30,200}+"),
    ("github", "ghp_ gho_ ghu_ ghs_ ghr_", r"[0-9A-Za-z]{30,255}+"),
    ("github", "github_pat_", r"[0-9A-Za-z_]{22,255}+"),
    ("gitlab", ("glpat- gldt- glrt- glrtr- glsoat- glcbt- glptt- glimt- glagent- glft- gloas- glffct- glwt-"),
     r"[0-9A-Za-z_\-.]{20,300}+"),
    ("slack", "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xoxc-", r"[0-9A-Za-z\-]{10,300}+"),
    ("slack", "xoxa. xoxb. xoxe. xoxo. xoxp. xoxr. xoxs. xoxc.", r"xox[bp]-[0-9A-Za-z\-]{10,300}+"),
    ("slack", "xoxd-", r"[0-9A-Za-z%/+=\-]{20,400}+"),
    ("slack", "xapp-", r"[0-9]-[0-9A-Za-z\-]{20,300}+"),
    ("slack", "hooks.slack.com/", r"(?:services|workflows|triggers)/[0-9A-Za-z/_\-]{20,200}+"),
    ("stripe", "sk_live_ sk_test_ rk_live_ rk_test_", r"[0-9A-Za-z]{10,255}+"),
    ("stripe", "whsec_", r"[0-9A-Za-z+/=]{20,255}+"),
    ("anthropic", "sk-ant-", r"[0-9A-Za-z_\-]{20,255}+"),
    ("openai", "sk-proj- sk-svcacct- sk-admin- sk-None- sk-or-v1-", r"[0-9A-Za-z_\-]{20,255}+"),
    ("openai", "sk-", r"[0-9A-Za-z]{32,255}+"),
    ("vendor_token", "sk-lf-", _UUID),
    ("huggingface", "hf_ api_org_", r"[0-9A-Za-z]{30,255}+"),
    ("npm", "npm_", r"[0-9A-Za-z]{36}"),
    ("pypi", "pypi-", r"[0-9A-Za-z_\-]{50,1000}+"),
    ("twilio", "SK AC", r"[0-9a-f]{32}(?![0-9A-Za-z])"),
    ("sendgrid", "SG.", r"[0-9A-Za-z_\-]{16,64}+\.[0-9A-Za-z_\-]{16,100}+"),
    ("vendor_token", "dop_v1_ doo_v1_ dor_v1_", r"[0-9a-f]{64}"),
    ("vendor_token", "shpat_ shpca_ shppa_ shpss_", r"[0-9a-fA-F]{32}"),
    ("vendor_token", "sq0atp- sq0csp-", r"[0-9A-Za-z_\-]{22,64}+"),
    ("vendor_token", "EAAA", r"[0-9A-Za-z_\-]{60}"),
    ("vendor_token", "key-", r"[0-9a-f]{32}(?![0-9a-z])"),
    ("vendor_token", "lin_api_", r"[0-9A-Za-z]{32,64}+"),
    ("vendor_token", "ntn_", r"[0-9A-Za-z]{40,64}+"),
    ("vendor_token", "secret_", r"[0-9A-Za-z]{43}(?![0-9A-Za-z])"),
    ("vendor_token", "hvs. hvb. hvr.", r"[0-9A-Za-z_\-]{24,300}+"),
    ("vendor_token", "dp.st. dp.pt. dp.ct. dp.sa. dp.scim. dp.audit.", r"[0-9A-Za-z_\-.]{32,120}+"),
    ("vendor_token", "figd_", r"[0-9A-Za-z_\-]{30,64}+"),
    ("vendor_token", "glsa_", r"[0-9A-Za-z]{32}_[0-9a-f]{8}"),
    ("vendor_token", "glc_", r"[0-9A-Za-z+/=]{32,300}+"),
    ("vendor_token", "sntrys_ sntryu_", r"[0-9A-Za-z_+/=]{32,300}+"),
    ("vendor_token", "dckr_pat_ dckr_oat_", r"[0-9A-Za-z_\-]{20,64}+"),
    ("vendor_token", "rubygems_", r"[0-9a-f]{48}"),
    ("vendor_token", "xkeysib-", r"[0-9a-f]{64}-[0-9A-Za-z]{16}"),
    ("vendor_token", "AGE-SECRET-KEY-1", r"[0-9A-Z]{58}"),
    ("vendor_token", "gsk_", r"[0-9A-Za-z]{40,64}+"),
    ("vendor_token", "r8_", r"[0-9A-Za-z]{37}"),
    ("vendor_token", "pplx-", r"[0-9A-Za-z]{40,64}+"),
    ("vendor_token", "nvapi-", r"[0-9A-Za-z_\-]{60,80}+"),
    ("vendor_token", "tskey-", r"[0-9A-Za-z\-]{20,100}+"),
    ("vendor_token", "xai-", r"[0-9A-Za-z]{70,90}+"),
    ("vendor_token", "ATATT3", r"[0-9A-Za-z_\-=]{100,255}+"),
    ("vendor_token", "dapi", r"[0-9a-f]{32}"),
    ("vendor_token", "PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}"),
    ("vendor_token", "NRAK-", r"[0-9A-Z]{27}"),
    ("vendor_token", "sbp_", r"[0-9a-f]{40}"),
    ("vendor_token", "pscale_tkn_ pscale_pw_ pscale_oauth_", r"[0-9A-Za-z_\-.=]{32,64}+"),
    ("vendor_token", "pul-", r"[0-9a-f]{40}(?![0-9A-Za-z])"),
    ("vendor_token", "dt0c01. dt0s01.", r"[0-9A-Z]{8,24}\.[0-9A-Z]{64}"),
    ("vendor_token", "EAAB EAAC EAAG EAAM", r"[0-9A-Za-z]{80,400}+"),
    ("vendor_token", "sk.", r"eyJ[0-9A-Za-z_\-]{40,500}+\.[0-9A-Za-z_\-]{20,40}+"),
    ("vendor_token", "bkua_", r"[0-9a-f]{40}"),
    ("vendor_token", "sb_secret_", r"[0-9A-Za-z_\-]{30,64}+"),
    ("vendor_token", "squ_ sqp_ sqa_", r"[0-9a-f]{40}"),
    ("vendor_token", "oy2", r"[0-9a-z]{43}(?![0-9A-Za-z])"),
    ("vendor_token", "pnu_ pnb_", r"[0-9A-Za-z]{36}"),
    ("vendor_token", "CCIPAT_ CCIPRJ_", r"[0-9A-Za-z]{22}_[0-9a-f]{40}"),
    ("vendor_token", "AKCp", r"[0-9A-Za-z]{60,80}+"),
    ("vendor_token", "HRKU-", r"[0-9A-Za-z_\-]{36,70}+"),
    ("vendor_token", "lsv2_pt_ lsv2_sk_", r"[0-9a-f]{32}_[0-9a-f]{10}"),
    ("vendor_token", "pat-na1- pat-eu1- sdk- xaat- xapt-", _UUID),
    ("vendor_token", "access-production- access-sandbox- access-development-", _UUID),
    ("vendor_token", "access_token$production$", r"[0-9a-z]{16}\$[0-9a-f]{32}"),
    ("vendor_token", "sha256~", r"[0-9A-Za-z_\-]{43}(?![0-9A-Za-z])"),
    ("vendor_token", "phx_", r"[0-9A-Za-z]{36,64}+"),
    ("vendor_token", "nfp_", r"[0-9A-Za-z]{36,64}+"),
    ("vendor_token", "ops_", r"eyJ[0-9A-Za-z+/=_\-]{100,2000}+"),
    ("vendor_token", "A3-", r"[0-9A-Z]{6}-(?:[0-9A-Z]{11}|[0-9A-Z]{6}-[0-9A-Z]{5})(?:-[0-9A-Z]{5}){3}"),
    ("vendor_token", "rzp_live_ rzp_test_", r"[0-9A-Za-z]{14}(?![0-9A-Za-z])"),
    ("vendor_token", "AKID", r"[0-9A-Za-z]{32}(?![0-9A-Za-z])"),
    ("vendor_token", "AQVN", r"[0-9A-Za-z_\-]{35,38}(?![0-9A-Za-z_\-])"),
    ("vendor_token", "aio_", r"[0-9A-Za-z]{28}(?![0-9A-Za-z])"),
    ("vendor_token", "CFPAT-", r"[0-9A-Za-z_\-]{43}(?![0-9A-Za-z])"),
    ("vendor_token", "CLOJARS_", r"[0-9a-z]{60}"),
    ("vendor_token", "v1.0-", r"[0-9a-f]{24}-[0-9a-f]{146}"),
    ("vendor_token", "FLWSECK-", r"[0-9a-z]{32}-X"),
    ("vendor_token", "FLWSECK_TEST-", r"[0-9a-zA-Z]{12,40}+"),
    ("vendor_token", "fo1_", r"[0-9A-Za-z_\-]{43}(?![0-9A-Za-z])"),
    ("vendor_token", "fm1a_ fm1r_ fm2_", r"[0-9A-Za-z+/]{100,2000}+={0,3}"),
    ("vendor_token", "fio-u-", r"[0-9A-Za-z_\-=]{64}"),
    ("vendor_token", "pat. sat.", r"[0-9A-Za-z_\-]{22}\.[0-9A-Za-z]{24}\.[0-9A-Za-z]{20}"),
    ("vendor_token", "ico-", r"[0-9A-Za-z]{32}(?![0-9A-Za-z])"),
    ("vendor_token", "NRII- NRIQ-", r"[0-9A-Za-z_\-]{32}(?![0-9A-Za-z])"),
    ("vendor_token", "API-", r"[0-9A-Z]{25,32}(?![0-9A-Za-z])"),
    ("vendor_token", "tk-us-", r"[0-9A-Za-z_\-]{48}"),
    ("vendor_token", "xsmtpsib-", r"[0-9a-f]{64}-[0-9A-Za-z]{16}"),
    ("vendor_token", "sgp_", r"(?:(?:[0-9a-f]{16}|local)_)?[0-9a-f]{40}(?![0-9A-Za-z])"),
    ("vendor_token", "oauth:", r"[0-9a-z]{30}(?![0-9A-Za-z])"),
    ("vendor_token", "tfp_", r"[0-9A-Za-z_\-.=]{59}"),
    ("vendor_token", "pcsk_", r"[0-9A-Za-z_]{50,90}+"),
    ("vendor_token", "tvly-", r"[0-9A-Za-z\-]{32,60}+"),
    ("vendor_token", "re_", r"[0-9A-Za-z]{8}_[0-9A-Za-z]{24}(?![0-9A-Za-z_])"),
    ("vendor_token", "vercel_blob_rw_", r"[0-9A-Za-z]{16}_[0-9A-Za-z]{28,40}+"),
    ("vendor_token", "mlsn.", r"[0-9a-f]{64}"),
    ("vendor_token", "LTAI", r"[0-9A-Za-z]{12,20}(?![0-9A-Za-z])"),
    ("vendor_token", "ATCTT3 ATBB", r"[0-9A-Za-z_\-=]{24,255}+"),
    ("vendor_token", "rdme_", r"[0-9a-z]{70}"),
    (
        "vendor_token",
        "webhook.office.com/webhookb2/",
        r"[0-9A-Za-z@\-]{36,80}+/IncomingWebhook/[0-9A-Za-z/_\-]{32,200}+",
    ),
    ("vendor_token", "discord.com/api/webhooks/ discordapp.com/api/webhooks/",
     r"[0-9]{10,25}/[0-9A-Za-z_\-]{40,100}+"),
)  # fmt: skip
#: Shapes whose beginning says little, and the full stop in them much.
DOTTED = (
    ("vendor_token", "pat", r"[0-9A-Za-z]{14}\.[0-9a-f]{64}"),
    ("vendor_token", "M N O", r"[0-9A-Za-z_\-]{23,27}\.[0-9A-Za-z_\-]{6}\.[0-9A-Za-z_\-]{27,40}+"),
)
#: What stands in the middle of keys that are no vendor's alone.
PLACES = ("live", "test", "prod", "production", "staging", "sandbox", "dev")
JOINED = re.compile(f"_(?:{'|'.join(PLACES)})_")
#: Shapes that begin with anything: looked for only where what stands inside of them does.
ANYWHERE = (
    ("azure", ("Q~",), r"[0-9A-Za-z_.~]{3}[0-9]Q~[0-9A-Za-z_.~\-]{31,34}+"),
    ("azure", ("AZDO", "AzFu"),
     (r"(?:[0-9A-Za-z]{76}AZDO[0-9A-Za-z]{4}(?![0-9A-Za-z])|[0-9A-Za-z_\-]{44}AzFu[0-9A-Za-z_\-]{5}[AQgw]==)")),
    ("azure", ("JQQJ9",), r"[0-9A-Za-z]{52}JQQJ9[0-9A-Za-z]{26,31}(?![0-9A-Za-z])"),
    ("azure", ("+ASt", "ACDb"),
     r"(?:[0-9A-Za-z+/]{76}\+ASt[0-9A-Za-z+/]{5}|[0-9A-Za-z]{76}ACDb[0-9A-Za-z]{5})[0-9A-Za-z]=="),
    ("aws", ("IQoJb3JpZ2lu",), r"IQoJb3JpZ2lu[0-9A-Za-z+/_\-]{100,4000}+={0,2}"),  # of a session
    # "-----BEGIN … PRIVATE KEY" in base64
    ("private_key", ("LS0tLS1CRUdJTiB",), rf"LS0tLS1CRUdJTiB(?:{_KEYS})[0-9A-Za-z+/]{{8,32768}}+={{0,2}}"),
    ("telegram", (":AA",), r"(?:bot)?+[0-9]{8,10}+:AA[0-9A-Za-z_\-]{32,33}(?![0-9A-Za-z_\-])"),
    ("vendor_token", (".atlasv1.",), r"[0-9A-Za-z]{14}\.atlasv1\.[0-9A-Za-z_\-=]{60,70}+"),
    ("vendor_token", ("-us",), r"[0-9a-f]{32}-us[0-9]{1,2}(?![0-9a-z])"),
    ("api_key", tuple(f"_{place}_" for place in PLACES),
     rf"(?!pk_)[A-Za-z][A-Za-z0-9]{{1,15}}{JOINED.pattern}[0-9A-Za-z_]{{16,255}}+"),
    # what passwords are kept as, in the modular crypt format and as frameworks write it
    ("password", ("$",), (r"(?:\$(?:2[abxy]\$[0-9]{2}\$[./0-9A-Za-z]{53}"
     r"|(?:1|5|6|apr1)\$(?:rounds=[0-9]{1,9}\$)?+[./0-9A-Za-z]{1,16}+\$[./0-9A-Za-z]{22,86}+"
     r"|y\$[./0-9A-Za-z]{1,16}+\$[./0-9A-Za-z]{1,86}+\$[./0-9A-Za-z]{43}"
     r"|argon2(?:id|i|d)\$(?:v=[0-9]{1,3}\$)?+m=[0-9,tp=]{5,60}+\$[+/0-9A-Za-z]{11,64}+\$[+/0-9A-Za-z]{16,128}+)"
     r"|(?:pbkdf2|scrypt)[0-9a-z_:]{0,40}+\$(?:[0-9]{1,9}\$)?+[!-#%-~]{2,64}?\$[+/=0-9A-Za-z]{22,172}+)")),
)  # fmt: skip
