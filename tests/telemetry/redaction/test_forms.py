"""Texts in whose form a secret is told by a name that stands elsewhere than right before it; and what only looks so."""

import pytest

from mobius_otel.telemetry.redaction import Redactor
from mobius_otel.telemetry.redaction.hits import Hits
from tests.telemetry.redaction.secrets_kit import CANARY

REDACTOR = Redactor()
SCANNER = REDACTOR._memory.scanner
FORMS = [
    # a literal in a call, a change, a reference to what holds it
    ('password: Some("{}")', 'password: Some("[redacted:password]")'),
    ("password=SecretStr('{}')", "password=SecretStr('[redacted:password]')"),
    ("WHERE password = MD5('{}')", "WHERE password = MD5('[redacted:password]')"),
    ('  ~ password = "old-1" -> "{}"', '  ~ password = "[redacted:password]" -> "[redacted:password]"'),
    ("os.environ['DB_PASSWORD'] = '{}'", "os.environ['DB_PASSWORD'] = '[redacted:password]'"),
    ("java -Dpwd={} -jar a.jar", "java -Dpwd=[redacted:password] -jar a.jar"),
    ("**Password:** {}", "**Password:** [redacted:password]"),
    ("UPDATE u SET password=E'{}'", "UPDATE u SET password=E'[redacted:password]'"),
    ("password: !str {}", "password: !str [redacted:password]"),
    ("password: |\n  {}", "password: |\n  [redacted:password]"),
    ("\x1b[36mpassword\x1b[0m=\x1b[35m{}\x1b[0m next",
     "\x1b[36mpassword\x1b[0m=\x1b[35m[redacted:password]\x1b[0m next"),
    ("authorization=Custom {}", "authorization=Custom [redacted:authorization]"),
    ("Authorization: Klaviyo-API-Key {}", "Authorization: Klaviyo-API-Key [redacted:authorization]"),
    # a name beside the value
    ("- name: DB_PASSWORD\n  value: {}", "- name: DB_PASSWORD\n  value: [redacted:password]"),
    ('<add key="DbPassword" value="{}"/>', '<add key="DbPassword" value="[redacted:password]"/>'),
    ('<meta name="csrf-token" content="{}">', '<meta name="csrf-token" content="[redacted:token]">'),
    ("{'Name': 'DB_PASSWORD', 'Value': '{}'}", "{'Name': 'DB_PASSWORD', 'Value': '[redacted:password]'}"),
    ("[('user', 'bob'), ('password', '{}')]", "[('user', 'bob'), ('password', '[redacted:password]')]"),
    ("headers=[(b'x-api-key', b'{}')]", "headers=[(b'x-api-key', b'[redacted:api_key]')]"),
    ("Key (token)=({}) already exists.", "Key (token)=([redacted:token]) already exists."),
    ("Key (tenant, token)=(acme, {})", "Key (tenant, token)=(acme, [redacted:token])"),
    ('form-data; name="password"\r\n\r\n{}\r\n--X', 'form-data; name="password"\r\n\r\n[redacted:password]\r\n--X'),
    ("<entry key='password'>{}</entry>", "<entry key='password'>[redacted:password]</entry>"),
    ("<a b='1'>x<wsse:Password T='x'>{}</a>", "<a b='1'>x<wsse:Password T='x'>[redacted:password]</a>"),
    # command lines
    ("mysql -u root -p{} app", "mysql -u root -p[redacted:password] app"),
    ("docker login -u bob -p {} reg.io", "docker login -u bob -p [redacted:password] reg.io"),
    ("sshpass -p '{}' ssh h", "sshpass -p '[redacted:password]' ssh h"),
    ("redis-cli -a {} ping", "redis-cli -a [redacted:password] ping"),
    ("curl -ubob:{} https://x", "curl -ubob:[redacted:url_credential] https://x"),
    ("curl --user=bob:{} https://x", "curl --user=bob:[redacted:url_credential] https://x"),
    ("aws configure set aws_secret_access_key {}", "aws configure set aws_secret_access_key [redacted:api_key]"),
    ("requirepass {}", "requirepass [redacted:password]"),
    ('1719820000.1 [0 127.0.0.1:5000] "AUTH" "app" "{}"',
     '1719820000.1 [0 127.0.0.1:5000] "AUTH" "app" "[redacted:password]"'),
    ("keytool -list -keystore k.jks -storepass {}", "keytool -list -keystore k.jks -storepass [redacted:password]"),
    ("app --token Bearer {}", "app --token Bearer [redacted:token]"),
    ("SET SESSION app.api_key TO '{}'", "SET SESSION app.api_key TO '[redacted:api_key]'"),
    # a list of a command's words, as Python and JSON print it
    ("Command '['mysql', '-p{}', 'shop']' returned non-zero exit status 1.",
     "Command '['mysql', '-p[redacted:password]', 'shop']' returned non-zero exit status 1."),
    ("args: ['curl', '-u', 'bob:{}', 'https://x']",
     "args: ['curl', '-u', 'bob:[redacted:url_credential]', 'https://x']"),
    ('argv=["app","--api-key","{}"]', 'argv=["app","--api-key","[redacted:api_key]"]'),
    ("run(['sshpass', '-p', '{}', 'ssh', 'h'])", "run(['sshpass', '-p', '[redacted:password]', 'ssh', 'h'])"),
    ("('app', '--password', '{} and more')", "('app', '--password', '[redacted:password]')"),
    ('{"msg": "exec [\\"app\\",\\"--token\\",\\"{}\\"]", "n": 1} x',
     '{"msg": "exec [\\"app\\",\\"--token\\",\\"[redacted:token]\\"]", "n": 1} x'),
    # statements, and parameters beside them
    ("[SQL: INSERT INTO u (name, password) VALUES (?, ?)]\n[parameters: ('bob', '{}')]",
     "[SQL: INSERT INTO u (name, password) VALUES (?, ?)]\n[parameters: ('bob', '[redacted:password]')]"),
    ("[SQL: INSERT INTO u (at, name, password) VALUES (now(), %s, crypt(%s, %s))]\n[parameters: [('bob', '{}', 'x1')]]",
     ("[SQL: INSERT INTO u (at, name, password) VALUES (now(), %s, [redacted:password])]\n"
      "[parameters: [('bob', '[redacted:password]', '[redacted:password]')]]")),
    ("[SQL: UPDATE u SET u.token = $2 WHERE id = $1]\n[parameters: (5, '{}')]",
     "[SQL: UPDATE u SET u.token = $2 WHERE id = $1]\n[parameters: (5, '[redacted:token]')]"),
    ("COPY public.u (id, password, n) FROM stdin;\n1\t{}\tx\n2\t\\N\ty\n\\.\n3\tz\tq",
     "COPY public.u (id, password, n) FROM stdin;\n1\t[redacted:password]\tx\n2\t\\N\ty\n\\.\n3\tz\tq"),
    # literals of statements, and what they are compared with
    ("CREATE USER a IDENTIFIED BY 'horse battery {}'", "CREATE USER a IDENTIFIED BY '[redacted:password]'"),
    ("ALTER ROLE a WITH LOGIN PASSWORD 'ho''rse {}' VALID",
     "ALTER ROLE a WITH LOGIN PASSWORD '[redacted:password]' VALID"),
    ("ALTER USER 'a'@'%' IDENTIFIED WITH mysql_native_password BY '{}'",
     "ALTER USER 'a'@'%' IDENTIFIED WITH mysql_native_password BY '[redacted:password]'"),
    ("SET PASSWORD FOR 'a'@'%' = '{}'", "SET PASSWORD FOR 'a'@'%' = '[redacted:password]'"),
    ("SET PASSWORD FOR 'a'@'%' = PASSWORD('{}')", "SET PASSWORD FOR 'a'@'%' = PASSWORD('[redacted:password]')"),
    ("CREATE USER a PASSWORD 'horse battery'", "CREATE USER a PASSWORD '[redacted:password]'"),
    ("UPDATE u SET password='a''{}', n=1", "UPDATE u SET password='[redacted:password]', n=1"),
    ("SET app.api_key TO 'a''{}'", "SET app.api_key TO '[redacted:api_key]'"),
    ("password='{}' 'b'", "password='[redacted:password]' 'b'"),
    ("x('password='{}'')", "x('password='[redacted:password]'')"),
    ("WHERE session_id IN ('{}', ?, '{}a') AND n IN ('b')",
     "WHERE session_id IN ('[redacted:session]', ?, '[redacted:session]') AND n IN ('b')"),
    ('WHERE u."apiKey"  NOT IN (\n  \'{}\')', 'WHERE u."apiKey"  NOT IN (\n  \'[redacted:api_key]\')'),
    ("WHERE token <> $1 AND client_secret != '{}'", "WHERE token <> $1 AND client_secret != '[redacted:secret]'"),
    ("WHERE token not ilike '%{}%'", "WHERE token not ilike '%[redacted:token]%'"),
    ("WHERE ((db_pass)::text IS NOT DISTINCT FROM '{}'::text)",
     "WHERE ((db_pass)::text IS NOT DISTINCT FROM '[redacted:password]'::text)"),
    ("where token <> '{}' and cvv in (737, 738)",
     "where token <> '[redacted:token]' and cvv in ([redacted:cvv], [redacted:cvv])"),
    # what validation says of a value
    ("1 error for Login\nuser.password\n  Be long [type=short, input_value='{}', input_type=str]",
     "1 error for Login\nuser.password\n  Be long [type=short, input_value=[redacted:password], input_type=str]"),
    ("argument --token: invalid choice: '{}' (choose from a)",
     "argument --token: invalid choice: '[redacted:token]' (choose from a)"),
    ("Invalid value for '--api-key': '{}' is not a valid integer.",
     "Invalid value for '--api-key': '[redacted:api_key]' is not a valid integer."),
    ("'{}' is too short\n\nOn instance['user']['password']:\n    '{}'",
     "[redacted:password] is too short\n\nOn instance['user']['password']:\n    [redacted:password]"),
    # objects as other languages print them
    ('["password":protected]=>\n  string(8) "{}"', '["password":protected]=>\n  string(8) "[redacted:password]"'),
    ("[password:protected] => {}\n[x] => 1", "[password:protected] => [redacted:password]\n[x] => 1"),
    ("[apiKey:App\\User:private] => {}", "[apiKey:App\\User:private] => [redacted:api_key]"),
    ('s:8:"password";s:8:"{}";', 's:8:"password";s:8:"[redacted:password]";'),
    ('token: Some(\n    "{}",\n)', 'token: Some(\n    "[redacted:token]",\n)'),
    ('"X-Api-Key":[]string{"{}"}', '"X-Api-Key":[]string{[redacted:api_key]}'),
    ('[[:password, "{}"]]', '[[:password, "[redacted:password]"]]'),
    ('(\n    "password",\n    "{}",\n)', '(\n    "password",\n    "[redacted:password]",\n)'),
    ("<key>client_secret</key>\n<string>{}</string>", "<key>client_secret</key>\n<string>[redacted:secret]</string>"),
    ('<input type="hidden" value="{}" name="csrf_token">',
     '<input type="hidden" value="[redacted:token]" name="csrf_token">'),
    ("<password><![CDATA[{}]]></password>", "<password><![CDATA[[redacted:password]]]></password>"),
    ('variable "db_password" { default = "{}" }', 'variable "db_password" { default = "[redacted:password]" }'),
    ('variable "db_password" {\n  default = "{}"\n}', 'variable "db_password" {\n  default = "[redacted:password]"\n}'),
    ('exec "{\\"Name\\": \\"/prod/db/password\\", \\"Value\\": \\"{}\\"}"',
     'exec "{\\"Name\\": \\"/prod/db/password\\", \\"Value\\": \\"[redacted:password]\\"}"'),
    # columns and settings
    ("HOME                /root\nDB_PASSWORD         {}\nUSER  bob",
     "HOME                /root\nDB_PASSWORD         [redacted:password]\nUSER  bob"),
    ("id       | 5\npassword | {}", "id       | 5\npassword | [redacted:password]"),
    ("DefaultPassword    REG_SZ    {}", "DefaultPassword    REG_SZ    [redacted:password]"),
    ('SetEnv DB_PASSWORD "{}"', 'SetEnv DB_PASSWORD "[redacted:password]"'),
    ('fastcgi_param DB_PASSWORD "{}";', 'fastcgi_param DB_PASSWORD "[redacted:password]";'),
    ("api_keys:\n  - {}\n  - {}\nnext: 1", "api_keys:\n  [redacted:api_key]\nnext: 1"),
    ('UPDATE u SET "password" = %s WHERE id = %s; args=(\'{}\', 1); alias=default',
     'UPDATE u SET "password" = %s WHERE id = %s; args=(\'[redacted:password]\', 1); alias=default'),
    ("pw_hash = '{} \u2502\n\u2502 retries = 3 \u2502\n\u2502 session_id = 's-{}' \u2502",
     "pw_hash = '[redacted:password]\n\u2502 retries = 3 \u2502\n\u2502 session_id = '[redacted:session]' \u2502"),
    ("jdbc:oracle:thin:bob/{}@//db:1521/s", "jdbc:oracle:thin:bob/[redacted:url_credential]@//db:1521/s"),
    ("nats://{}0a1b2c@h:4222", "nats://[redacted:url_credential]@h:4222"),
    ("API key \u2192 {}0a1b2c3d", "API key \u2192 [redacted:api_key]"),
    # a head that tells what stands below it
    ('user,password,n\nbob,"{}",1\nzoe,,2\n', 'user,password,n\nbob,"[redacted:password]",1\nzoe,,2\n'),
    (" id | password \n----+----------\n  1 | {}\n(1 row)",
     " id | password \n----+----------\n  1 | [redacted:password]\n(1 row)"),
    ("+----+--------+\n| id | secret |\n+----+--------+\n|  1 | {} |\n+----+--------+",
     "+----+--------+\n| id | secret |\n+----+--------+\n|  1 | [redacted:secret] |\n+----+--------+"),
    ("id\tapi_key\r\n1\t{}\r\n", "id\tapi_key\r\n1\t[redacted:api_key]\r\n"),
    ("login,session_id,n\nbob,{},2\n", "login,session_id,n\nbob,[redacted:session],2\n"),
    ("user;oldPassword\nbob;{}\n", "user;oldPassword\nbob;[redacted:password]\n"),
    ("a b: c\nlogin,cvv\nbob,737\nzoe,\n", "a b: c\nlogin,cvv\nbob,[redacted:cvv]\nzoe,\n"),
    (" id | clientSecret \n----+----\n  1 | {}\n(1 row)",
     " id | clientSecret \n----+----\n  1 | [redacted:secret]\n(1 row)"),
    ("| login | DB_PASS |\n|---|---|\n| bob | {} |\n",
     "| login | DB_PASS |\n|---|---|\n| bob | [redacted:password] |\n"),
    ("n,backup_code\n1,{}\n2,123456\n", "n,backup_code\n1,[redacted:otp]\n2,[redacted:otp]\n"),
    ("login,DB_PASS\nbob,ho!rse?\nzoe,a.b\n", "login,DB_PASS\nbob,[redacted:password]\nzoe,a.b\n"),
    ("WHERE cvv LIKE '737%'", "WHERE cvv LIKE '[redacted:cvv]%'"),
    ("clientSecrets:\n  ci: {}\nnext: abc123", "clientSecrets:\n  ci: [redacted:secret]\nnext: abc123"),
    ("[passwords]\nbob = {}\n[sizes]\nbob = 12a34b", "[passwords]\nbob = [redacted:password]\n[sizes]\nbob = 12a34b"),
    ('[api]\nurl = "x1y2z3"\nkey = "{}"', '[api]\nurl = "x1y2z3"\nkey = "[redacted:api_key]"'),
    ("tokens:\n  ci: {}\n  type: abc123\nnext: abc123",
     "tokens:\n  ci: [redacted:token]\n  type: abc123\nnext: abc123"),
    # colours that cut a name or a value in two
    ("\x1b[33mapi_key\x1b[0m\x1b[31m =\x1b[0m \x1b[32m'{}'\x1b[0m", "api_key = '[redacted:api_key]'"),
    ("DB_\x1b[01;31m\x1b[KPASSWORD\x1b[m\x1b[K={}", "DB_PASSWORD=[redacted:password]"),
    # names and sentences in other languages
    ("API-Schl\u00fcssel: {}", "API-Schl\u00fcssel: [redacted:api_key]"),
    ("\u5bc6\u94a5\uff1a{}", "\u5bc6\u94a5\uff1a[redacted:token]"),
    ("\u5bc6\u7801\u662f {}", "\u5bc6\u7801\u662f [redacted:password]"),
    ("\u043c\u043e\u0439 \u043f\u0430\u0440\u043e\u043b\u044c - {}",
     "\u043c\u043e\u0439 \u043f\u0430\u0440\u043e\u043b\u044c - [redacted:password]"),
    ("mi clave es {}", "mi clave es [redacted:password]"),
    # sentences
    ("changed password from {}1 to {}", "changed password from [redacted:password] to [redacted:password]"),
    ("password changed from 'my dog' to '{}'", "password changed from '[redacted:password]' to '[redacted:password]'"),
    ("clientSecret was changed from {}1 to {}.",
     "clientSecret was changed from [redacted:secret] to [redacted:secret]."),
    ('Updated API key from "{}1" to "{}"', 'Updated API key from "[redacted:api_key]" to "[redacted:api_key]"'),
    ("your one-time password is {}", "your one-time password is [redacted:password]"),
    ("A temporary password is generated for root@localhost: {}",
     "A temporary password is generated for root@localhost: [redacted:password]"),
    ("Password for user 'admin': {}", "Password for user 'admin': [redacted:password]"),
    ("> PASS {}", "> PASS [redacted:password]"),
    ("PASS: {}", "PASS: [redacted:password]"),
    ("ugi=bob (auth:{}) ip=x", "ugi=bob (auth:[redacted:authorization]) ip=x"),
    ("unexpected token: {}0a1b", "unexpected token: [redacted:token]"),
    ('headers["authorization"] = (\n    "{}"\n)', 'headers["authorization"] = ([redacted:authorization])'),
    ("GET /password-reset/MQ/c2{}-5b9b6c1d0e8a7f6c/ 200", "GET /password-reset/MQ/[redacted:token]/ 200"),
    ("/verify-email/token/{}0a1b2c3d4e", "/verify-email/token/[redacted:token]"),
    # what passwords are kept as, a token in an address, a signature over what a header says
    ("bob:$2b$12$KIXQzBYKd0m6a6b7GEX1ZuWvRk8VQy6cE8vY0Jp3a4i4rG3vJp6bO", "bob:[redacted:password]"),
    ("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG", "[redacted:password]"),
    ("pbkdf2_sha256$600000$salt$" + "aB1+" * 11, "[redacted:password]"),
    ("x:$6$rounds=5000$abcdefgh$" + "a1B2" * 21 + "a1:19000", "x:[redacted:password]:19000"),
    ("POST https://t.example/bot123456789:" + "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw8/getMe",
     "POST https://t.example/[redacted:telegram]/getMe"),
    ("Stripe-Signature: t=1492774577,v1={}ab,v0={}cd next", "Stripe-Signature: [redacted:signature] next"),
    ("grant_type=authorization_code&client_id=a&code=4%2F0AX{}&redirect_uri=b",
     "grant_type=authorization_code&client_id=a&code=[redacted:token]&redirect_uri=b"),
    # a manifest of Kubernetes
    ("data:\n  db: {}\n  username: bob\nkind: Secret\nmetadata:\n  name: x",
     "data:\n  db: [redacted:secret]\n  username: bob\nkind: Secret\nmetadata:\n  name: x"),
    ("kind: Secret\nstringData:\n  cert: |\n    {}\nmetadata:\n  name: x",
     "kind: Secret\nstringData:\n  cert: |\n    [redacted:secret]\nmetadata:\n  name: x"),
    ("changed passphrase -> {}", "changed passphrase -> [redacted:password]"),
    ("| user | bob | password | {} |", "| user | bob | password | [redacted:password] |"),
    ('["password"]=>\n  string(12) "{}"', '["password"]=>\n  string(12) "[redacted:password]"'),
    # sentences
    ("Your temporary password is: {}", "Your temporary password is: [redacted:password]"),
    ("password has been reset to {}", "password has been reset to [redacted:password]"),
    ("the password was set to {}.", "the password was set to [redacted:password]."),
    ("new password for bob is '{}'", "new password for bob is '[redacted:password]'"),
    ("Password for bob: {}", "Password for bob: [redacted:password]"),
    ("SET PASSWORD FOR bob = '{}'", "SET PASSWORD FOR bob = '[redacted:password]'"),
    ("Das Passwort lautet {}", "Das Passwort lautet [redacted:password]"),
    ("Mot de passe : {}", "Mot de passe : [redacted:password]"),
    ("Contrase\u00f1a: {}", "Contrase\u00f1a: [redacted:password]"),
    ("session id {}0123456789 not found", "session id [redacted:session] not found"),
    ("Incorrect API key provided: {}", "Incorrect API key provided: [redacted:api_key]"),
    ("secret access key is {}", "secret access key is [redacted:api_key]"),
    ("ALTER USER zoe WITH PASSWORD 'open.sesame' VALID", "ALTER USER zoe WITH PASSWORD '[redacted:password]' VALID"),
    ("login zoe, pwd OpenSesame", "login zoe, pwd [redacted:password]"),
    ("machine h login zoe password opensesame", "machine h login zoe password [redacted:password]"),
    ("machine h login zoe password open.sesame", "machine h login zoe password [redacted:password]"),
    ("the passphrase is: opensesame", "the passphrase is: [redacted:password]"),
    # addresses
    ("https://x.example/?ticket={}long1long1", "https://x.example/?ticket=[redacted:token]"),
    ("grant_type=authorization_code&code={}long1long1", "grant_type=authorization_code&code=[redacted:token]"),
    ("csrf token mismatch: got {}", "csrf token mismatch: got [redacted:token]"),
    ("GET /reset-password?code={}", "GET /reset-password?code=[redacted:token]"),
    ("https://x.example/?key={}long1long1&b=1", "https://x.example/?key=[redacted:api_key]&b=1"),
    ("/cb?auth={}&page=3", "/cb?auth=[redacted:authorization]&page=3"),
    ("https://x-access-token:{}@h.example/a.git failed",
     "https://x-access-token:[redacted:url_credential]@h.example/a.git failed"),
    ("Authorization: SSWS {}", "Authorization: SSWS [redacted:authorization]"),
    # where a value begins
    ("password                = {}", "password                = [redacted:password]"),
    (f'  + password{" " * 60}= "{{}}"', f'  + password{" " * 60}= "[redacted:password]"'),
    ("      DB_PASSWORD:                     {}", "      DB_PASSWORD:                     [redacted:password]"),
    ("'password'            => '{}',", "'password'            => '[redacted:password]',"),
    ('    "api_key"             : "{}"', '    "api_key"             : "[redacted:api_key]"'),
    ("<password>\n  {}\n</password>", "<password>\n  [redacted:password]\n</password>"),
    ('"Jwt:Key": "{}"', '"Jwt:Key": "[redacted:private_key]"'),
    ('"a": "b", "ApiKeys:Stripe" = "{}"', '"a": "b", "ApiKeys:Stripe" = "[redacted:api_key]"'),
    ('x "Storage:Key": "{}"', 'x "Storage:Key": "[redacted:api_key]"'),
    ("export Jwt__Key={}", "export Jwt__Key=[redacted:private_key]"),
    # where a value ends
    ("password={bcrypt}$2a$10${}", "password=[redacted:password]"),
    ("password={noop}{} x", "password=[redacted:password] x"),
    ("userPassword: {SSHA}{}", "userPassword: [redacted:password]"),
    ("?api_token=7|{}&a=1", "?api_token=[redacted:token]&a=1"),
    ("access_token=123456789012345|{}", "access_token=[redacted:token]"),
    ("Bearer 7|{}", "Bearer [redacted:authorization]"),
    ("jdbc:sqlserver://db1:1433;databaseName=x;user=ann;password=P@ss{};x=1",
     "jdbc:sqlserver://db1:1433;databaseName=x;user=ann;password=[redacted:password];x=1"),
    ("nats://h1:4222,nats://bob:{}@h2:4222", "nats://h1:4222,nats://bob:[redacted:url_credential]@h2:4222"),
    ("A=1\0DB_PASSWORD={}\0HOME=/root\0PATH=/bin", "A=1\0DB_PASSWORD=[redacted:password]\0HOME=/root\0PATH=/bin"),
    ("app\0--password={}\0--port\x0080", "app\0--password=[redacted:password]\0--port\x0080"),
    ("password=a\0b{}", "password=[redacted:password]"),
    ("https://__token__:{}@h.example/simple", "https://__token__:[redacted:url_credential]@h.example/simple"),
    ("def login(user: str, password:str='{}')", "def login(user: str, password:str='[redacted:password]')"),
    ("creds = (bob, {})", "creds = ([redacted:credential])"),
    ("login(token=make(cfg), password=Crypt.new('{}'))",
     "login(token=make(cfg), password=Crypt.new('[redacted:password]'))"),
    ('mutation M($p: String!) { login(password: "{}") }',
     'mutation M($p: String!) { login(password: "[redacted:password]") }'),
    ("Password={};User ID=sa;Database=x", "Password=[redacted:password];User ID=sa;Database=x"),
    ("enc.pw=ENC({}) next", "enc.pw=[redacted:password] next"),
    ("wrong password ({}) for bob", "wrong password ([redacted:password]) for bob"),
    ("the password is **{}**.", "the password is **[redacted:password]**."),
    ("?token={}&amp;state=x", "?token=[redacted:token]&amp;state=x"),
    ("token={}&#x27;&gt;", "token=[redacted:token]&#x27;&gt;"),
    ("password=&#39;a b {}&#39;, n", "password=&#39;[redacted:password]&#39;, n"),
    ("password=&lt;{}&quot;x", "password=[redacted:password]"),
    # containers: their own names tell
    ("{'AccessKey': {'UserName': 'bob', 'SecretAccessKey': '{}', 'At': datetime.datetime(2024, 1, 1)}, 'n': 1}",
     ("{'AccessKey': {'UserName': 'bob', 'SecretAccessKey': '[redacted:api_key]', 'At': datetime.datetime(2024, 1, 1)}"
      ", 'n': 1}")),
    ('x "db_password":{"sensitive":true,"type":"string","value":"{}"} y',
     'x "db_password":{"sensitive":true,"type":"string","value":"[redacted:password]"} y'),
    ("{'credentials': {'user': 'bob', 'more': {'at': '{}'}}}", "{'credentials': {[redacted:credential]}}}"),
    ("{'credentials': {'password': 'x-1', 'at': '{}', 'n': 7}}", "{'credentials': {[redacted:credential]}}"),
    ("{Creds:{User:bob Password:{} Port:80} N:3}", "{Creds:{User:bob Password:[redacted:password] Port:80} N:3}"),
    ("{Creds:{User:bob Other:{} Port:80} N:3}", "{Creds:{User:bob Other:[redacted:credential] Port:80} N:3}"),
    ("{Creds:{User:bob Other:x y{} Port:80} N:3}", "{Creds:{[redacted:credential]} N:3}"),
    ("{Password: A{}:1 N:2", "{Password: [redacted:password] N:2"),
    ("Header:map[Accept:[*/*] Cookie:[sid={}] X-A:[k]] Body:x",
     "Header:map[Accept:[*/*] Cookie:[[redacted:cookie]] X-A:[k]] Body:x"),
    ("<SimpleCookie: sid='{}' theme='dark'>", "<SimpleCookie: [redacted:cookie]>"),
    ("'cookies': <RequestsCookieJar[<Cookie sid={} for h/>]>, 'n': 1",
     "'cookies': <RequestsCookieJar[[redacted:cookie]]>, 'n': 1"),
    ("def load(raw, password={}): pass", "def load(raw, password=[redacted:password]): pass"),
    ("{'authorization': Bearer 12|{}}", "{'authorization': Bearer [redacted:authorization]}"),
    ("('authorization', 'Bearer {}')", "('authorization', 'Bearer [redacted:authorization]')"),
    ("token = base64_bytes.decode('{}')", "token = base64_bytes.decode('[redacted:token]')"),
    ("API_TOKEN=super_secret_{}_token", "API_TOKEN=[redacted:token]"),
    ("API_TOKEN=super_secret_token", "API_TOKEN=[redacted:token]"),
    ("session = Session(\n    '{}',\n)", "session = Session(\n    '[redacted:session]',\n)"),
    ("[webhook_secret]: https://h.example/{}", "[webhook_secret]: [redacted:secret]"),
    ("Driver=x;PWD={A{}:x};N=1", "Driver=x;PWD={[redacted:password]};N=1"),
    ("tokens: [my_own_token]", "tokens: [[redacted:token]]"),
    ("PWD={User:x}", "PWD={[redacted:password]}"),
    ('x "Sid": "Abc{}"', 'x "Sid": "[redacted:session]"'),
    ("<password>!?</password> <password>{}</password>",
     "<password>[redacted:password]</password> <password>[redacted:password]</password>"),
    ("the token is a1b2c3](d{}", "the token is [redacted:token]"),
    ("secret is {}x/self.f('user')", "secret is [redacted:secret]'user')"),
    ("password=$1::{}", "password=[redacted:password]"),
    ("pwd='/{}'", "pwd='[redacted:password]'"),
    ("map[csrf_token:]{}]", "map[csrf_token:[redacted:token]]"),
    ("pwd='x/{}'", "pwd='[redacted:password]'"),
    # what says that a value was rejected
    ("Field error in object 'login' on field 'user.password': rejected value [{}]; codes [Size.login.password]",
     ("Field error in object 'login' on field 'user.password': rejected value [[redacted:password]]; codes "
      "[Size.login.password]")),
    ('"password" with value "{}" fails to match the required pattern',
     '"password" with value "[redacted:password]" fails to match the required pattern'),
    ("Path `password` (`{}`) is shorter than the minimum allowed length (12).",
     "Path `password` (`[redacted:password]`) is shorter than the minimum allowed length (12)."),
    ('CastError: Cast to Number failed for value "{}" (type string) at path "user.token"',
     'CastError: Cast to Number failed for value "[redacted:token]" (type string) at path "user.token"'),
    ("`{}` is not a valid enum value for path `token`.",
     "`[redacted:token]` is not a valid enum value for path `token`."),
    ('x {"PropertyName":"Password","ErrorMessage":"too short","AttemptedValue":"{}"} x',
     'x {"PropertyName":"Password","ErrorMessage":"too short","AttemptedValue":"[redacted:password]"} x'),
    ('{"field":"password","rejectedValue":"{}","message":"too short"}',
     '{"field":"password","rejectedValue":"[redacted:password]","message":"too short"}'),
    (('Cannot deserialize value of type `int` from String "{}": not a valid `int` value\n at [Source: (String); '
      'line: 1] (through reference chain: a.Form["login"]->a.Login["password"])'),
     ('Cannot deserialize value of type `int` from String "[redacted:password]": not a valid `int` value\n at '
      '[Source: (String); line: 1] (through reference chain: a.Form["login"]->a.Login["password"])')),
    ('invalid argument "{}" for "-p, --password" flag: x',
     'invalid argument "[redacted:password]" for "-p, --password" flag: x'),
    ('invalid value "{}" for flag -password: parse error',
     'invalid value "[redacted:password]" for flag -password: parse error'),
    ("error: invalid value '{}' for '--password <PASSWORD>': x",
     "error: invalid value '[redacted:password]' for '--password <PASSWORD>': x"),
    ('data[password]: Invalid value: "{}": x', 'data[password]: Invalid value: "[redacted:password]": x'),
    ("Value '{}' at 'password' failed to satisfy constraint: x",
     "Value '[redacted:password]' at 'password' failed to satisfy constraint: x"),
    ("Incorrect integer value: '{}' for column `app`.`users`.`token` at row 1",
     "Incorrect integer value: '[redacted:token]' for column `app`.`users`.`token` at row 1"),
    ("Duplicate entry '{}' for key 'sessions.session_token_UNIQUE'",
     "Duplicate entry '[redacted:token]' for key 'sessions.session_token_UNIQUE'"),
    ('\u2502 var.db_password is "{}"', '\u2502 var.db_password is "[redacted:password]"'),
    ("failed to parse field [token] of type [long] in document with id '1'. Preview of field's value: '{}'",
     ("failed to parse field [token] of type [long] in document with id '1'. Preview of field's value: "
      "'[redacted:token]'")),
    ("assigning APP_PASSWORD to Password: converting '{}' to type int",
     "assigning APP_PASSWORD to Password: converting '[redacted:password]' to type int"),
    ('E   assert password == "{}"', 'E   assert password == "[redacted:password]"'),
    # parameters that are bound to a statement
    (("LOG:  execute <unnamed>: UPDATE users SET password=$1 WHERE id=$2\nDETAIL:  parameters: $1 = '{}', $2 = "
      "'bob'"),
     ("LOG:  execute <unnamed>: UPDATE users SET password=$1 WHERE id=$2\nDETAIL:  parameters: $1 = "
      "'[redacted:password]', $2 = 'bob'")),
    ("DETAIL:  Parameters: $1 = '{}'\nSTATEMENT:  UPDATE users SET password = $1",
     "DETAIL:  Parameters: $1 = '[redacted:password]'\nSTATEMENT:  UPDATE users SET password = $1"),
    (("SELECT id FROM u WHERE lower(login) = $1 AND password = crypt($2, password) LIMIT $3\nparameters: $1 = "
      "'bob', $2 = '{}', $3 = '1'"),
     ("SELECT id FROM u WHERE lower(login) = $1 AND password = crypt($2, password) LIMIT $3\nparameters: $1 = "
      "'bob', $2 = '[redacted:password]', $3 = '1'")),
    (("Executed DbCommand (3ms) [Parameters=[@p0='bob' (Size = 450), @p1='{}' (Nullable = false) (Size = 4000)], "
      "CommandType='Text']\nINSERT INTO [Users] ([Login], [Password])\nOUTPUT INSERTED.[Id]\nVALUES (@p0, @p1);"),
     ("Executed DbCommand (3ms) [Parameters=[@p0='bob' (Size = 450), @p1='[redacted:password]' (Nullable = "
      "false) (Size = 4000)], CommandType='Text']\nINSERT INTO [Users] ([Login], [Password])\nOUTPUT "
      "INSERTED.[Id]\nVALUES (@p0, @p1);")),
    ('query: INSERT INTO "user"("login", "password") VALUES ($1, $2) -- PARAMETERS: ["bob","{}"]',
     'query: INSERT INTO "user"("login", "password") VALUES ($1, $2) -- PARAMETERS: ["bob","[redacted:password]"]'),
    (("==>  Preparing: UPDATE users SET n = ?, password = ? WHERE id = ?\n==> Parameters: null, {}(String), "
      "7(Integer)"),
     ("==>  Preparing: UPDATE users SET n = ?, password = ? WHERE id = ?\n==> Parameters: null, "
      "[redacted:password](String), 7(Integer)")),
    (("insert into users (login, password) values (?, ?)\nbinding parameter [1] as [VARCHAR] - [bob]\nbinding "
      "parameter [2] as [VARCHAR] - [{}]"),
     ("insert into users (login, password) values (?, ?)\nbinding parameter [1] as [VARCHAR] - [bob]\nbinding "
      "parameter [2] as [VARCHAR] - [[redacted:password]]")),
    ('Executing (default): UPDATE "users" SET "password"=$1 WHERE "id" = $2; "{}", 7',
     'Executing (default): UPDATE "users" SET "password"=$1 WHERE "id" = $2; "[redacted:password]", 7'),
    ('local.INFO: update users set password = ? where id = ? ["{}",7]',
     'local.INFO: update users set password = ? where id = ? ["[redacted:password]",7]'),
    ('prisma:query UPDATE "users" SET "password" = $1 WHERE "id" = $2\nprisma:params ["{}",7]',
     'prisma:query UPDATE "users" SET "password" = $1 WHERE "id" = $2\nprisma:params ["[redacted:password]",7]'),
    ("{ sql: 'insert into `u` (`login`, `password`) values (?, ?)', bindings: [ 'bob', '{}' ] }",
     "{ sql: 'insert into `u` (`login`, `password`) values (?, ?)', bindings: [ 'bob', '[redacted:password]' ] }"),
    ('INSERT INTO t (a, password) VALUES (?, ?) (parameters: array{"1":"bob","2":"{}"}, types: array{"1":2})',
     ('INSERT INTO t (a, password) VALUES (?, ?) (parameters: array{"1":"bob","2":"[redacted:password]"}, types: '
      'array{"1":2})')),
    # what is drawn with lines, and values below their names
    ("    connect(user, password)\n    │       │     └ '{}'\n    │       └ 'bob'",
     "    connect(user, password)\n    │       │     └ '[redacted:password]'\n    │       └ 'bob'"),
    ("\u2502 password \u2502 '{}' \u2502", "\u2502 password \u2502 '[redacted:password]' \u2502"),
    ("│ user │ password │\n├──────┼────┤\n│ bob │ {} │",
     "│ user │ password │\n├──────┼────┤\n│ bob │ [redacted:password] │"),
    ("\u2502 (index) \u2502 user \u2502 password \u2502\n\u2502 0 \u2502 'bob' \u2502 '{}' \u2502",
     "\u2502 (index) \u2502 user \u2502 password \u2502\n\u2502 0 \u2502 'bob' \u2502 '[redacted:password]' \u2502"),
    ("│ login ┆ password │\n│ --- ┆ --- │\n│ str ┆ str │\n╞═══╡\n│ bob ┆ {} │",
     "│ login ┆ password │\n│ --- ┆ --- │\n│ str ┆ str │\n╞═══╡\n│ bob ┆ [redacted:password] │"),
    # what languages and their tools print and declare
    ("rawHeaders: [\n  'Host',      'x',\n  'X-Api-Key', '{}',\n  'Authorization', 'Bearer {}'\n]",
     ("rawHeaders: [\n  'Host',      'x',\n  'X-Api-Key', '[redacted:api_key]',\n  'Authorization', 'Bearer "
      "[redacted:authorization]'\n]")),
    ("[Password, {}], [User, bob]", "[Password, [redacted:password]], [User, bob]"),
    ('Password: (string) (len=8) "{}",', 'Password: (string) (len=8) "[redacted:password]",'),
    ('a0="mysql" a1="-u" a2="root" a3="-p{}"', 'a0="mysql" a1="-u" a2="root" a3="-p[redacted:password]"'),
    ('$cred = ConvertTo-SecureString "{}" -AsPlainText',
     '$cred = ConvertTo-SecureString "[redacted:password]" -AsPlainText'),
    ("storePassword '{}'", "storePassword '[redacted:password]'"),
    ("send: 'AUTH PLAIN {}==\\r\\n'", "send: 'AUTH PLAIN [redacted:password]\\r\\n'"),
    ("#0 /app/Db.php(12): PDO->__construct('mysql:host=db', 'root', '{}')",
     "#0 /app/Db.php(12): PDO->__construct('mysql:host=db', 'root', '[redacted:password]')"),
    ('new mysqli("db", "root", "{}")', 'new mysqli("db", "root", "[redacted:password]")'),
    ('auth=HTTPBasicAuth("bob", "{}")', 'auth=HTTPBasicAuth("bob", "[redacted:password]")'),
    ("User(name=bob, token=Optional[{}])", "User(name=bob, token=Optional[[redacted:token]])"),
    ('password: Optional[str] = "{}"', 'password: Optional[str] = "[redacted:password]"'),
    ('password: str | None = "{}"', 'password: str | None = "[redacted:password]"'),
    ('let password: String = "{}"', 'let password: String = "[redacted:password]"'),
    ("const TOKEN: &'static str = \"{}\";", "const TOKEN: &'static str = \"[redacted:token]\";"),
    # sentences
    ("Session {}AB12cd34 has expired", "Session [redacted:session] has expired"),
    ("Invalid credentials {}AB12cd34", "Invalid credentials [redacted:credential]"),
    ("invalid token qXvTyKbLmZ7pRwSdJhGf", "invalid token [redacted:token]"),
    ("secret access key wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "secret access key [redacted:api_key]"),
]  # fmt: skip
HARMLESS = [
    "\u2502 password \u2502 email \u2502", "    f(a, password)\n    \u2502 \u2502  \u2514 None",
    "    f(password, a)\n    \u2502 \u2502         \u2514 'bob1'",
    "[Token, Int32]", "Dict[Token, Int32x]", "250-AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER",
    "token=Optional[str]", "token: Optional[AccessToken] = None",
    "storePassword System.getenv('X1')",
    "session 17 started for user bob", "session opened for user root(uid=0) by bob(uid=1000)",
    "New session c2 of user root",
    "the session BackgroundTaskRunnerFactory1 began", "invalid token AbstractAuthenticationProcessingFilter2",
    "let password: String = makeIt()",
    'a0="ls" a1="-p" a2="x1x1x1"', "Invalid credentials provided", "credentials for bob are valid",
    'UPDATE "Users" SET "Password" = @p0 WHERE "Id" = @p1', "INSERT INTO Users (Login, Password) VALUES (@p0, @p1)",
    "INSERT INTO Users (Login, Password) VALUES (:p0, ?)", "INSERT INTO Users (Login, Password) VALUES ({0}, $1)",
    "UPDATE u SET password = :p0, token=%(x)s, pin={0}, secret=@secret", "WHERE Password = @Password AND x=1",
    "UPDATE u SET password = crypt($2, gen_salt($3))",
    "==>  Preparing: SELECT * FROM users WHERE login = ?\n==> Parameters: bob(String)",
    "[Parameters=[@__l_0='bob' (Size = 4)], x]\nSELECT u.Id, u.Password FROM Users AS u WHERE u.Login = @__l_0",
    "Path `name` (`bob`) is shorter than the minimum allowed length (12).",
    "Duplicate entry 'bob1' for key 'users.login'",
    'invalid argument "bob1" for "--name" flag: x', 'assert name == "bob1"',
    "https://x.org:8443,https://y.org/@ann/post", "token           x = 1",
    "password:                a description of it",
    "missing Authorization: Bearer header", "token: Optional[str]", "cvv=match", "credentials: include",
    "password=YOUR_PASSWORD", "secret = kubernetes_secret.db.data.password", "https://x.example/map?pin=blue",
    "password=<password>; request aborted", "cookie: disabled; request aborted", "Passwort: erforderlich",
    "Unexpected token: identifier expected", "/x?ticket=ABC-123",
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-umVEJz",
    "cookie: enabled", "cookies: 3", "tokens=12/100", "signature=ok", "first pass: done", "boarding pass: gate B22",
    "env: API_TOKEN: ${{ secrets.API_TOKEN }}", "password = (sensitive value)", "password = (known after apply)",
    "password=[PROTECTED]", "password = var.db_password", "password: !Ref DbPassword", "pin=13 mode=output",
    "pin: GPIO17", "passwd: password updated successfully", 'password = os.getenv("DB_PASSWORD")',
    'token = config.get("token")', 'password: t("login.password")', "docker run -p 8080:80 nginx",
    "mysql -u root -p shop", 'fields = ("password", "email")', "- name: LOG_LEVEL\n  value: debug",
    '<add key="Timeout" value="30"/>', "git config user.name bob", 'curl --user "$U:$P" https://x.example',
    "ba569b0b-d91e-ccee-7fee-45640dd8d6a0", "| password | email |", "password -> hash",
    "Mapping token -> count: {'the': 41}",
    "user form, password reset", "/users/<int:pin>/cards",
    "\u5bc6\u7801\u957f\u5ea6\u5fc5\u987b\u4e3a12\u4e2a\u5b57\u7b26",
    "the password is: required",
    "your postal code is 12345", "password for user bob2 was rejected", "token for job-123456789012 is expired",
    "Your booking code is 123456", "password for bob: expired", "passwort f\u00fcr bob42x wurde ge\u00e4ndert",
    "error code is 1234",
    "Command '['ls', '-la', '/tmp']' returned 2", "['mysql', '-u', 'root', '-p', 'shop']", "['curl', '-u', '$U:$P']",
    "['docker', 'run', '-p', '8080:80']", "SET search_path TO 'public'",
    "apiVersion: v1\ndata:\n  db: bar\nkind: ConfigMap",
    "[SQL: SELECT * FROM u WHERE id = ?]\n[parameters: ('17',)]", "COPY u (id, name) FROM stdin;\n1\tbob\n\\.",
    "INSERT INTO u (email, password) VALUES (%(email)s::VARCHAR, %(password)s::VARCHAR(80)), ($1::TEXT, $2::TEXT[])",
    "UPDATE u SET password=%(password)s::VARCHAR WHERE id = %(id)s::INTEGER",
    "export PWD='/srv/app'", "'PWD': '/srv/x-1', 'n': 1", "https://__token__:****@h.example/simple",
    "{'password': ['Shorter than minimum length 30.'], 'pin': ['Not a valid integer.'], 'token': ['Unknown field.']}",
    "Invalid value for '--password': Input should be a valid integer",
    "/verify/status/confirm-email-2024-template", "/reset/1234567890123456", "password    required    yes",
    "error: invalid choice: 'x'", "[name:protected] => bob", "PASS 12 tests",
    "\x1b[32mok\x1b[0m 3 tests passed", "api_keys:\n  - name\n  - secret", "tokens:\n  - the\n  - cat",
    "map[a:[]string{x}]",
    "{'AccessKey': {'UserName': 'bob', 'Status': 'Active', 'CreateDate': datetime.datetime(2024, 1, tzinfo=tzutc())}}",
    "{'credentials': {'user': 'bob', 'expires': 5}}", "{Password: User:bob Port:80}", "{User:bob Password: Port:80}",
    "'_cookies': <RequestsCookieJar[]>, 'body': 'x'", "CREATE TABLE u (id int, password varchar(80) not null, n int)",
    "password\t[success=1 default=ignore]", 'app --token "<account-access-key>" next', "-b, --cookie <data|filename>",
    "-u, --user <user:password> Server user", "Private-Key: (2048 bit, 2 primes)",
    "import token, tokenize, secrets\nfoo = 1, 2, 3", "a, password, b\nc, d, e",
    "token | n\n--+--\nthe | 3", 'x = [\n    "private_key",\n    "xds.server_credentials",\n    "x",\n]',
    "load_key, token\na.b, c.d", "user,session\nann,the first one of 2", "name,pin\nann,GPIO17\nbob,12",
    "session_count,session_id_type\n12345,a1b2c3\n", "a,session_id\nb,c,d1e2f3g4\n",
    "credentials:\n  user: bob12345\n  file: ./f1a1b1\n", "[secrets]\nrotation = 90\npath = /etc/x1y2z3",
    "def load(raw, password=None):", "self.token = access_token", "tokens = text.split('x')[:-1], tokens[:-1]",
    'token = raw.decode("utf-8")', 'password = password.encode("utf-8")', 'self._token = kwargs.pop("token")',
    "token = token[CSRF_LENGTH:]", "tokens: _NesterTokens | None", "credential: ~azure.core.credentials.TokenProvider",
    "session = boto3.Session(\n    region=r,\n)", "password=dict(type='str', no_log=True)", "tokens: :class:`int`",
    'security={"bearer_auth": True},', ":param client_secret: Unicode client secret.", "API_KEY = 18",
    "Event before-call.iam.CreateAccessKey: calling handler <f>", "auth: Debug: sql(bob)", "id-token: write",
    "[azure_keyvault_secrets]: https://h.example/a/b", ".. _SENDGRID_API_KEY: https://h.example",
    '"Sid":"EC2DescribeVolumes1ForELB", "Effect":"Allow"', '{"Statement": [{"Sid": "AllowListing"}]}',
    "status installed python3-jwt:all 2.6.0-1", "- [RFC7009: OAuth 2.0 Token Revocation](https://h.example/rfc7009.html)",
    "'info': '<sr-api-key>:<sr-api-secret>'", "`Credential(exclude_cli_credential=True)`",
    "    return self.send(request, auth=auth, follow_redirects=follow_redirects)", "creds=(user,password)",
    "def login(user:str, password:int=typer.Option(...))", 'with Client(token=cfg["token"]) as c',
    'DB_PASSWORD = email["DB_PASSWORD"]', 'SECRET_KEY = env.str("SECRET_KEY")', "session = ssl_session_cache[0]",
    "tokens[-1] = text[x:]", "credential = DefaultAzureCredential()", "session: nox.Session",
    "session: _ClientSession | None", "x_tokens: Required[int]", "auth.token = creds.token",
    "password: creds.password,",
    "creds.password = parts.join(':')",
    "secrets: [db_password, api_token]", "conn = connect(user=user, password=cfg.password)",
    "mutation Login($email: String!, $password: String!) { login(password: $password) }", "$password = $p;",
    "records are identified by 'name and date'", "where token <> $1 and pin in (?, ?) and token like %s",
    "WHERE status IN ('paid', 'open') AND token <> b.\"token\" AND password LIKE '%'", "where token <> 'revoked'",
    "model,tokens\ngpt,51200\n", "| model | output_tokens |\n|---|---|\n| gpt | 51200 |\n",
    "where tokens in (512, 1024)",
    "max tokens changed from 512 to 1024", "status changed from 'a1' to 'b2'",
    "copied the token from cache1 to cache2", "phone changed from 'home' to 'work'",
    "password='', user=''", "WHERE token_count IN ('a1b2c3')",
    "<td class='a'>12</td>", "Key (email_id, n)=(17, 4) is not present",
    "código 404 não encontrado", "code de postal 75001", "код ошибки 40412", "kod pocztowy 12345",
    "Ihr Code ist falsch",
    "the code is as your friend says 1234", "2024 as your target year",
    # what has passed, what a parser met
    "--- PASS: TestTokenRefresh (0.03s)", "    --- PASS: TestAuth/with_password (0.00s)", "PASS: test-strtol",
    "PASS src/auth/token.test.ts (5.123 s)", "PASS internal/auth", "PASS pkg/auth.TestLogin (0.01s)",
    "PASS: gcc.dg/20001013-1.c (test for excess errors)", "unexpected token: where near line 1, column 42",
    "SyntaxError: Unexpected token: punc (.)", "passwd: all authentication tokens updated successfully.",
    '"GET /v1/items?token_type=bearer HTTP/1.1" 200 17', "ugi=bob@B (auth:KERBEROS) via h (auth:SIMPLE) ip=x",
    "System.Text.Json, Version=8.0.0.0, Culture=neutral, PublicKeyToken=cc7b13ffcd2ddd51",
    '{"password": {"type": "string", "format": "password", "minLength": 8}}',
    # source code that stands alone
    "password = auth[2]", "self._passphrase = passphrase", "token = uuid.uuid1().hex.encode()",
    'raise LdapError(f"bind failed dn={dn} password={password}")', "log(f'{a} secret={self.value!r}')",
]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    ['headers["authorization"] = (', 'headers["authorization"] = (\n          ~~~~^', "signing_keys = [",
     "password = auth[2]", "token = Keyword.Type", "session = _lib.SSL_get_session(self._ssl)",
     "auth = (unquote(parsed.username), unquote(parsed.password))", "self._pwd = pwd", "salt = keypair[:32]"],
)  # fmt: skip
def test_a_line_of_code_in_a_traceback_names_what_holds_a_secret(line):
    """A literal in it may be one, and so may what an exception says."""
    frame = 'Traceback:\n  File "/app/a.py", line 16, in f\n    {}\nTypeError: not "str" (but None){}'
    text = frame.format(line, "")
    assert REDACTOR.text(text) is text
    literal, said = frame.format(f"password = '{CANARY}1'", ""), frame.format(line, f" token={CANARY}")
    assert REDACTOR.text(literal) == frame.format("password = '[redacted:password]'", "")
    assert REDACTOR.text(said) == frame.format(line, " token=[redacted:token]")


@pytest.mark.parametrize(("text", "clean"), FORMS, ids=[clean[:40] for _, clean in FORMS])
def test_a_secret_is_found_in_its_form_and_the_form_stays(text, clean):
    """Only the secret goes; again, as a part of a record, and screened beside another text, it is the same."""
    text = text.replace("{}", CANARY)
    assert REDACTOR.text(text) == clean
    assert REDACTOR.text(clean) == clean
    assert REDACTOR.redact({"note": "all is well", "message": text}).value == {"note": "all is well", "message": clean}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_one_stays(text):
    """States, references, places that something else fills."""
    assert REDACTOR.text(text) is text


@pytest.mark.parametrize(("text", "clean"), FORMS, ids=[clean[:40] for _, clean in FORMS])
def test_a_form_is_suspected_behind_any_text(text, clean):
    """One that begins the same way, or is cut off, does not hide it."""
    text = text.replace("{}", CANARY)
    assert SCANNER.scan(text, Hits()) == clean
    for before in ('form-data; name="x"', "Key (a)=(", "<a b='", '("password", "', "- name: x", "mysql "):
        assert 1 in SCANNER.suspects([before, text])


@pytest.mark.parametrize(
    "text",
    ["953372 is your Acme verification code", "Your Acme code is 953372. Do not share it", "one-time password 953372",
     "Your code is 953372", "Use 953372 as your one-time password", "Ihr Bestätigungscode lautet 953372.",
     "Dein Code ist: 953372", "Ihre TAN lautet 953372", "Votre code est 953372",
     "Votre code de vérification est : 953372", "Su código es 953372", "Tu código de verificación es 953372",
     "Seu código de verificação é 953372", "Il tuo codice di verifica è 953372", "Uw verificatiecode is 953372",
     "Twój kod weryfikacyjny to 953372", "Код подтверждения: 953372", "Ваш код 953372", "您的验证码是953372\uff0c请勿",
     "【店】验证码\uff1a953372", "認証コードは953372です", "인증번호 [953372]", "인증번호는 953372입니다"],
)  # fmt: skip
def test_a_one_time_code_in_a_short_message_goes(text):
    """Whichever way round it is said."""
    assert REDACTOR.redact({"sms": text}).value == {"sms": text.replace("953372", "[redacted:otp]")}


@pytest.mark.parametrize(
    ("kind", "token"),
    [
        ("pypi", f"pypi-AgEIcHlwaS5vcmcnoI7z4kwDZYU4sh_p_c1snKwhiw7Skmk2t2vhsm2QXEkkRTlZFTJv4NOODAbYOERhn_{'k' * 30}"),
        ("vendor_token", f"hvs.CAESI6hP5dS5d_2_oFeHtrbzWWCKSSAr4hbdnFRwgQJScJnU3gtCUpZKthdWV7{'k' * 12}-RVw"),
        ("vendor_token", f"discord.com/api/webhooks/474338825009215171/x-jgl_8_{'o1' * 23}-Ab"),
        ("mobius_key", f"AgEIcHlwaS5vcmcnoI7z4kw-sh_p_{'c1' * 22}_{'k' * 30}"),
    ],
)
def test_what_looks_like_a_key_of_ours_inside_a_longer_token_takes_all_of_it(kind, token):
    """Half of a vendor's token would be left on either side."""
    assert REDACTOR.text(f"use {token} now") == f"use [redacted:{kind}] now"


@pytest.mark.parametrize(
    "text",
    ['["a", "-----BEGIN EC PRIVATE KEY-----\\nMIIEpAIBAAKCAQEA7bq9fN2p\\nZx81kQ"]',
     "{'a': '-----BEGIN EC PRIVATE KEY-----\\nMIIEpAIBAAKCAQEA7bq9fN2p'}",
     "> -----BEGIN RSA PRIVATE KEY-----\n> MIIEpAIBAAKCAQEA7bq9fN2p\n> MIIEZx81kQ"],
)  # fmt: skip
def test_of_a_key_that_is_cut_off_nothing_stays_before_a_quote_or_behind_a_mark(text):
    """A quote behind the key's last word does not make a name of it."""
    assert "MIIE" not in REDACTOR.text(text)


@pytest.mark.parametrize(
    ("words", "clean"),
    [
        (["mysql", f"-p{CANARY}", "shop"], ["mysql", "-p[redacted:password]", "shop"]),
        (
            ("curl", "-u", f"bob:{CANARY} ' \" |x", "https://x"),
            ("curl", "-u", "bob:[redacted:url_credential]", "https://x"),
        ),
        (["/usr/bin/docker", "login", "-u", "bob", "-p", CANARY], None),
        (["app", "--token", CANARY, 5, None], ["app", "--token", "[redacted:token]", 5, None]),
        (["redis-cli", "-a", CANARY], ["redis-cli", "-a", "[redacted:password]"]),
        (["docker", "run", "-p", "8080:80"], ["docker", "run", "-p", "8080:80"]),
    ],
)
def test_the_words_of_a_command_in_a_list(words, clean):
    """Each is a word, whatever stands in it."""
    clean = clean or ["/usr/bin/docker", "login", "-u", "bob", "-p", "[redacted:password]"]
    for value, expected in ((words, clean), ({"argv": words, "note": "x"}, {"argv": clean, "note": "x"})):
        result = Redactor().redact(value)
        assert result.value == expected
        assert len(result.matches) == (0 if words == clean else 1)
        assert Redactor().redact(result.value).value is result.value


def test_a_manifest_of_kubernetes_of_the_kind_secret():
    """All of its data goes, what another kind has in the same place stays."""
    data = {"db": "aHVudGVyMng=", "username": "Ym9i"}
    for kind, clean in (("Secret", {"db": "[redacted:secret]", "username": "Ym9i"}), ("ConfigMap", data)):
        for _ in range(2):  # known and not
            value = {"kind": kind, "metadata": {"name": "x"}, "data": data}
            assert REDACTOR.redact({"items": [value]}).value == {"items": [value | {"data": clean}]}


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"password":"{}"}\n',
        ' {"a": 1, "password": "{}"}\n\n', '{\n    "a": [\n        1\n    ],\n    "password": "{}"\n}\n',
        '[\n {\n  "password": "{}"\n }\n]', '[\n\t{\n\t\t"password": "{}"\n\t}\n]', '["a", "b", {"password": "{}"}]',
        '{"at":"https:\\/\\/h","password":"{}"}',
    ],
)  # fmt: skip
def test_a_document_keeps_its_layout(text):
    """Its line breaks, its indentation, its blanks, and slashes as PHP writes them."""
    assert REDACTOR.text(text.replace("{}", CANARY)) == text.replace("{}", "[redacted:password]")
