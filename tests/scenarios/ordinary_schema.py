"""200 columns without personal data, as people write schemas: (name, type, SQL expression of the row number n)."""

TABLES = {
    "shop.products": [
        ("id", "bigserial", "n"), ("sku", "text", "'SKU-' || lpad((n * 7919)::text, 8, '0')"), ("name", "text", "(ARRAY['Wooden Chair', 'Desk Lamp 40W', 'USB Cable', 'Garden Hose', 'Coffee Mug'])[n % 5 + 1]"),
        ("slug", "text", "'wooden-chair-' || n"), ("description", "text", "'A comfortable chair made of oak, 45 x 50 cm, with a warranty of 2 years. Item ' || n"),
        ("ean13", "char(13)", "(4006381000000 + n * 31)::text"), ("isbn", "text", "'978-3-16-148' || lpad(n::text, 3, '0') || '-0'"), ("price", "numeric(10,2)", "n * 1.99"),
        ("currency", "char(3)", "'EUR'"), ("weight_grams", "int", "n * 100"), ("condition", "text", "(ARRAY['new', 'used', 'refurbished'])[n % 3 + 1]"),
        ("brand", "text", "(ARRAY['Acme', 'Globex', 'Initech'])[n % 3 + 1]"), ("tags", "text[]", "ARRAY['home', 'oak', 'sale']"), ("attributes", "jsonb", "jsonb_build_object('color', 'red', 'size', n, 'name', 'Oak line')"),
        ("image_url", "text", "'https://cdn.example.com/p/' || n || '@2x.png'"), ("image_file", "text", "'chair-' || n || '@2x.jpg'"), ("is_active", "boolean", "true"), ("created_at", "timestamptz", "now() - n * interval '1 day'"),
    ],
    "shop.orders": [
        ("id", "uuid", "md5(n::text)::uuid"), ("order_number", "text", "(4000000000000000 + n * 7)::text"), ("reference", "text", "'ORD-2024-' || lpad(n::text, 6, '0')"), ("customer_id", "bigint", "n"),
        ("status", "text", "(ARRAY['open', 'paid', 'shipped'])[n % 3 + 1]"), ("total", "numeric(12,2)", "n * 12.5"), ("tax_id", "int", "n % 4"), ("tax_rate", "numeric", "0.19"), ("coupon_code", "text", "'SPRING' || n"),
        ("payment_method", "text", "(ARRAY['card', 'paypal', 'transfer'])[n % 3 + 1]"), ("card_type", "text", "(ARRAY['visa', 'mastercard'])[n % 2 + 1]"), ("card_last4", "char(4)", "lpad((n * 37)::text, 4, '0')"),
        ("tracking_number", "text", "'1Z999AA1' || lpad((n * 7919)::text, 10, '0')"), ("shipping_method", "text", "'standard'"), ("shipped_on", "date", "current_date - n"), ("email_sent_at", "timestamptz", "now()"),
        ("email_template", "text", "'order_confirmation_v2'"), ("item_count", "int", "n % 5"), ("notes_count", "int", "0"), ("locale", "text", "'de_DE'"),
    ],
    "shop.stores": [
        ("id", "int", "n"), ("name", "text", "'Downtown Store ' || n"), ("city", "text", "(ARRAY['Berlin', 'Rome', 'Paris'])[n % 3 + 1]"), ("country_code", "char(2)", "'DE'"), ("latitude", "double precision", "52.5 + n / 1000.0"),
        ("longitude", "numeric(9,6)", "13.4 + n / 1000.0"), ("opening_hours", "jsonb", "'{\"mon\": \"09:00-18:00\", \"tue\": \"09:00-18:00\"}'::jsonb"), ("timezone", "text", "'Europe/Berlin'"), ("utc_offset", "text", "'+02:00'"),
    ],
    "logs.requests": [
        ("id", "bigint", "n"), ("ts", "timestamptz", "now()"), ("method", "text", "'GET'"), ("path", "text", "'/api/v1/items/' || n"), ("query_string", "text", "'page=' || n || '&sort=asc'"), ("status_code", "smallint", "200"),
        ("duration_ms", "int", "n * 3"), ("client_ip", "text", "'10.0.' || n % 256 || '.' || n * 3 % 256"), ("remote_address", "inet", "'10.0.0.1'::inet"), ("user_agent", "text", "'Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0'"),
        ("request_id", "text", "md5(n::text)"), ("trace_id", "text", "md5((n + 1)::text) || md5(n::text)"), ("host", "text", "'app-' || n % 3 || '.internal'"), ("server_address", "text", "'10.1.2.' || n || ':8080'"),
        ("referer", "text", "'https://www.example.com/shop?id=' || n"), ("bytes_sent", "bigint", "n * 1024"), ("headers", "jsonb", "jsonb_build_object('accept', 'text/html', 'x-request-id', md5(n::text), 'content-length', n * 100)"),
        ("error_message", "text", "'timeout after ' || n || ' ms while connecting to 10.0.0.' || n"), ("stack", "text", "'at main.rs:' || n || ' in handler::call'"), ("level", "text", "'info'"),
    ],
    "iot.devices": [
        ("device_id", "text", "'dev-' || lpad(n::text, 5, '0')"), ("name", "text", "'Boiler Room Sensor ' || n"), ("display_name", "text", "'Boiler ' || n"), ("serial_number", "text", "'SN' || (100000000 + n * 7919)"), ("imei", "text", "(353918000000000 + n * 17)::text"),
        ("iccid", "text", "'8949' || (1000000000000000 + n * 7)::text"), ("mac_address", "text", "'00:1b:44:11:3a:' || lpad(to_hex(n), 2, '0')"), ("ip_address", "text", "'192.168.1.' || n"), ("i2c_address", "int", "64"), ("firmware_version", "text", "'1.' || n || '.3'"),
        ("model", "text", "'TX-200'"), ("mobile", "boolean", "false"), ("phone_model", "text", "'Pixel ' || n % 8"), ("battery_level", "real", "0.87"), ("last_seen", "timestamp", "now()"), ("public_key", "bytea", "decode(md5(n::text), 'hex')"),
        ("certificate", "text", "'-----BEGIN CERTIFICATE-----' || chr(10) || md5(n::text)"), ("location", "text", "'Building 4, Floor ' || n % 5"), ("owner_type", "text", "'team'"), ("config", "json", "('{\"interval\": 60, \"topic\": \"sensors/' || n || '/temp\"}')::json"),
    ],
    "iot.readings": [
        ("id", "bigint", "n"), ("sensor", "text", "'temp-' || n % 9"), ("value", "double precision", "20 + n / 10.0"), ("unit", "text", "'C'"), ("measured_at", "timestamptz", "now()"), ("quality", "smallint", "n % 3"), ("raw", "bytea", "decode(lpad(to_hex(n), 8, '0'), 'hex')"),
        ("epoch_ms", "bigint", "1700000000000 + n"), ("epoch_us", "bigint", "1700000000000000 + n"), ("sequence", "numeric(20)", "4611686018427387 + n"),
    ],
    "accounting.accounts": [
        ("account_number", "text", "(1000 + n * 10)::text"), ("account_name", "text", "(ARRAY['Cash', 'Accounts Receivable', 'Office Supplies', 'Retained Earnings'])[n % 4 + 1]"), ("account_type", "text", "(ARRAY['asset', 'liability', 'income'])[n % 3 + 1]"), ("parent_account", "text", "'1000'"),
        ("balance", "numeric(14,2)", "n * 100.5"), ("currency", "text", "'EUR'"), ("is_bank_account", "boolean", "false"), ("opened_on", "date", "current_date"),
    ],
    "accounting.invoices": [
        ("invoice_no", "text", "'INV-' || 20240000 + n"), ("issue_date", "date", "current_date"), ("due_date", "date", "current_date + 30"), ("net_amount", "numeric", "n * 10"), ("vat_amount", "numeric", "n * 1.9"), ("income", "numeric", "n * 8"),
        ("cost_center", "text", "'CC-' || n"), ("gl_code", "text", "(400000 + n)::text"), ("period", "text", "'2024-0' || n % 9 + 1"), ("vat_number", "text", "'DE' || (100000000 + n * 7919)"), ("payment_reference", "text", "'RF18 5390 0754 7034'"), ("document_number", "text", "'D' || lpad(n::text, 8, '0')"),
        ("supplier_code", "text", "'S' || n"), ("bic", "text", "'DEUTDEFF'"), ("posted_by_batch", "text", "'batch-' || n"),
    ],
    "git.repositories": [
        ("id", "bigint", "n"), ("name", "text", "'hello-world-' || n"), ("full_name", "text", "'octo/hello-world-' || n"), ("default_branch", "text", "'main'"), ("clone_url", "text", "'https://git.example.com/octo/hello-' || n || '.git'"), ("ssh_url", "text", "'git@git.example.com:octo/hello-' || n || '.git'"),
        ("description", "text", "'A tool to parse configuration files, version ' || n"), ("language", "text", "(ARRAY['Rust', 'Go', 'Python'])[n % 3 + 1]"), ("license", "text", "'MIT'"), ("stars", "int", "n * 12"), ("forks", "int", "n"), ("topics", "jsonb", "'[\"cli\", \"parser\"]'::jsonb"), ("archived", "boolean", "false"),
        ("homepage", "text", "'https://hello.example.com'"), ("size_kb", "int", "n * 90"), ("owner_id", "bigint", "n"), ("visibility", "text", "'public'"),
    ],
    "git.commits": [
        ("sha", "char(40)", "left(md5(n::text) || md5((n + 1)::text), 40)"), ("message", "text", "'Fix the build on ARM64 (#' || n || ')'"), ("tree", "text", "left(md5((n + 2)::text) || md5(n::text), 40)"), ("parents", "text[]", "ARRAY[md5(n::text)]"), ("additions", "int", "n"), ("deletions", "int", "n"),
        ("committed_at", "timestamptz", "now()"), ("signature_key_id", "text", "upper(left(md5(n::text), 16))"), ("file_names", "text[]", "ARRAY['src/main.rs', 'Cargo.toml']"), ("branch_name", "text", "'feature/x-' || n"), ("diff", "text", "'@@ -1,3 +1,4 @@' || chr(10) || '+let x = ' || n || ';'"),
    ],
    "cms.posts": [
        ("id", "int", "n"), ("title", "text", "(ARRAY['How We Moved House', 'Ten Tips for Gardens', 'Release Notes 2.4'])[n % 3 + 1]"), ("slug", "text", "'ten-tips-' || n"), ("body", "text", "'<p>In spring, water the plants twice a day. See chapter ' || n || '.</p>'"), ("excerpt", "text", "'In spring, water the plants.'"),
        ("author_id", "int", "n"), ("category_name", "text", "(ARRAY['Garden', 'House'])[n % 2 + 1]"), ("published_at", "timestamptz", "now()"), ("meta_description", "text", "'Tips for your garden'"), ("seo_title", "text", "'Garden Tips'"), ("template_name", "text", "'post.html'"), ("word_count", "int", "n * 20"), ("lang", "text", "'en'"),
        ("comment_status", "text", "'open'"), ("guid", "text", "'https://blog.example.com/?p=' || n"), ("mime_type", "text", "'text/html'"),
    ],
    "cms.assets": [
        ("path", "text", "'/uploads/2024/' || n || '.png'"), ("file_name", "text", "'IMG_' || 20240100 + n || '.JPG'"), ("checksum", "text", "md5(n::text)"), ("width", "int", "800"), ("alt_text", "text", "'A red bicycle by the sea'"), ("exif", "jsonb", "'{\"Make\": \"Canon\", \"Model\": \"EOS 80D\", \"ISO\": 200}'::jsonb"), ("variants", "text[]", "ARRAY['a@2x.webp', 'a@3x.webp']"),
    ],
    "ops.jobs": [
        ("job_name", "text", "'nightly_report'"), ("cron", "text", "'0 3 * * *'"), ("handler", "text", "'App\\Jobs\\SendReport'"), ("payload", "jsonb", "jsonb_build_object('name', 'Nightly', 'id', n, 'phone_home', false)"), ("attempts", "int", "1"), ("queue", "text", "'default'"), ("worker_host", "text", "'worker-3.example.net'"),
        ("message_id", "text", "(20240101000000 + n) || '.' || md5(n::text) || '@mail.example.com'"), ("last_error", "text", "'ValueError: invalid literal for int() with base 10'"), ("age", "int", "n * 60"), ("priority", "int", "n % 3"),
    ],
    "misc.things": [
        ("contract_address", "text", "'0x' || left(md5(n::text) || md5((n + 1)::text), 40)"), ("wallet_address", "text", "'bc1q' || md5(n::text)"), ("treatment", "text", "(ARRAY['control', 'variant_a'])[n % 2 + 1]"), ("race", "text", "'Grand Prix ' || n"), ("vin", "text", "'WVWZZZ1JZ' || lpad((n * 7919)::text, 8, '0')"), ("flight", "text", "'LH' || n"),
        ("postal_zone", "text", "'Z' || n"), ("regex", "text", "'^[a-z]+@[a-z]+\\.com$'"), ("product_name", "text", "'Oak Table'"), ("company_name", "text", "'Acme Ltd'"), ("version", "text", "'10.' || n || '.0-beta'"), ("password_hash", "text", "'$2b$12$' || md5(n::text)"), ("nationality_filter", "boolean", "false"), ("color_name", "text", "'Dark Red'"),
        ("feature_flags", "jsonb", "'{\"email_enabled\": true, \"phone_required\": false, \"name\": \"beta\"}'::jsonb"), ("duration", "interval", "interval '1 day'"), ("score", "real", "0.5"), ("weekday_names", "text[]", "ARRAY['Monday', 'Tuesday']"),
    ],
}
