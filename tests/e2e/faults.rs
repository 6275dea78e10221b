//! Fault scenarios, each with its own shop.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use stoa_tests::client::text;
use stoa_tests::process::{ProcessSpec, bare_command, free_port};
use stoa_tests::{Mode, Servers, Shop, servers, shop};

use crate::support::*;

pub fn an_unreachable_subgraph_takes_down_nothing_else() {
    let shop = Shop::start(Mode::Separate);
    block_on(async {
        let (admin, ada) = (shop.sign_in("admin").await, shop.sign_in("ada").await);
        let product = new_product(&admin, 5).await;
        shop.kill("notifications");
        let answer = ada.query("{ me { firstName notifications { totalCount } orders(first: 1) { nodes { number } } } }", json!({})).await;
        assert_eq!(answer["data"]["me"]["firstName"], "Ada");
        assert!(answer["data"]["me"]["orders"]["nodes"][0]["number"].is_string());
        assert_eq!(answer["data"]["me"]["notifications"], Value::Null);
        assert_eq!(answer["errors"].as_array().unwrap().len(), 1, "{answer:#}");
        assert_eq!(
            answer["errors"][0]["extensions"],
            json!({ "code": "SUBGRAPH_UNREACHABLE", "service": "notifications" })
        );
        assert_eq!(answer["errors"][0]["path"], json!(["me"]));
        let mut stream = ada
            .subscribe("subscription { myOrderUpdates { status } }", json!({}))
            .await;
        assert_eq!(
            stream.next_text("/errors/0/extensions/code").await,
            "SUBGRAPH_UNREACHABLE"
        );
        let health = ada
            .http
            .get(format!("{}/health/ready", shop.url))
            .send()
            .await
            .unwrap();
        // The rest of the graph works, so the router stays ready.
        assert_eq!(health.status(), 200);
        let health: Value = health.json().await.unwrap();
        assert_eq!(health["status"], "degraded");
        assert_eq!(health["dependencies"]["notifications"], "unavailable");
        assert_eq!(health["dependencies"]["orders"], "ok");

        // Orders without the products service: nothing is placed, and the client may retry.
        shop.kill("products");
        let variables = json!({ "input": order_of(&product, 1, "sandbox_approve"), "key": key() });
        for _ in 0..2 {
            assert_eq!(ada.code(PLACE, variables.clone()).await, "UNAVAILABLE");
        }
        let before = ada.ok("{ me { orders { totalCount } } }", json!({})).await;
        assert_eq!(before["me"]["orders"]["totalCount"], 5);
        let lines = ada
            .query(
                "{ me { orders(first: 1) { nodes { lines { name product { name } } } } } }",
                json!({}),
            )
            .await;
        let line = &lines["data"]["me"]["orders"]["nodes"][0]["lines"][0];
        assert!(
            line["name"].is_string(),
            "the snapshot is there without the product"
        );
        assert_eq!(line["product"], Value::Null);
    });
}

pub fn a_killed_shop_forgets_nothing() {
    let mut shop = Shop::start(Mode::One);
    let (order, product, cursor) = block_on(async {
        let (admin, ada) = (shop.sign_in("admin").await, shop.sign_in("ada").await);
        let product = new_product(&admin, 5).await;
        // Events of the demo orders are still being delivered when the shop is ready.
        eventually("the demo data has arrived", || async {
            let inbox = ada
                .ok("{ me { notifications { totalCount } } }", json!({}))
                .await;
            inbox["me"]["notifications"]["totalCount"] == 15
        })
        .await;
        let cursor = text(&ada.ok("{ liveCursor }", json!({})).await, "/liveCursor");
        (
            place(&ada, &product, 2, "sandbox_approve").await,
            product,
            cursor,
        )
    });
    // Killed while the payment is in progress, and again right after.
    shop.restart();
    shop.restart();
    block_on(async {
        let ada = shop.sign_in("ada").await;
        assert_eq!(settled(&ada, &order).await, "CONFIRMED");
        assert_eq!(stock_of(&ada, &product).await, 3);
        // A cursor from before the kill stays valid, and each event is delivered once.
        let mut events = ada
            .subscribe("subscription ($after: String) { myOrderUpdates(after: $after) { status orderId } }", json!({ "after": cursor }))
            .await;
        for status in ["PENDING", "CONFIRMED"] {
            let update = events.next().await.value.unwrap();
            assert_eq!(
                update["data"]["myOrderUpdates"],
                json!({ "status": status, "orderId": order })
            );
        }
        // The message that the killed process was handling is redelivered after its
        // acknowledgement deadline of a few seconds.
        let of_order = async || {
            let inbox = ada
                .ok(
                    "{ me { notifications(first: 20) { nodes { title order { id } } } } }",
                    json!({}),
                )
                .await;
            let nodes = inbox["me"]["notifications"]["nodes"].as_array().unwrap();
            let mine = nodes.iter().filter(|n| n["order"]["id"] == order.as_str());
            mine.count()
        };
        eventually("the inbox has both", || async { of_order().await == 2 }).await;
        let data = ada.ok("{ products { totalCount } }", json!({})).await;
        assert_eq!(
            data["products"]["totalCount"], 229,
            "nothing is seeded twice"
        );
    });
}

/// A role that starts before its database and its bus reports what it waits for, starts
/// when they are available, and tracks them as they fail and recover.
pub fn a_role_waits_for_what_it_needs() {
    if !servers::available() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("stoa-test-{}", key()));
    std::fs::create_dir_all(&folder).unwrap();
    let servers = Servers::start(&folder.join("servers"));
    servers.kill("postgres");
    servers.kill("nats");
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut environment = servers.settings();
    environment.push(("STOA_DATA_DIR".into(), folder.display().to_string()));
    let orders = ProcessSpec {
        name: "orders".into(),
        program: shop::binary().to_owned(),
        arguments: ["subgraph", "orders", "--listen", &url[7..]]
            .map(str::to_owned)
            .into(),
        environment,
        folder: folder.clone(),
        signal: "KILL",
    }
    .start();
    block_on(async {
        let ready = async |what: &str| {
            let answer = reqwest::get(format!("{url}/health/{what}")).await;
            let Ok(answer) = answer else {
                return (0, Value::Null);
            };
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap_or_default();
            (
                status,
                serde_json::from_str(&text).unwrap_or(Value::from(text)),
            )
        };
        let until = async |what: &str, condition: &dyn Fn(u16, &Value) -> bool| {
            for _ in 0..600 {
                let (status, body) = ready("ready").await;
                if condition(status, &body) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            panic!("{what}: never; {:?}", ready("ready").await);
        };
        until("it waits for the bus", &|status, body| {
            status == 503 && body["waitingFor"] == "the event bus (NATS)"
        })
        .await;
        assert_eq!(ready("live").await, (200, Value::from("ok")));
        servers.restart("nats");
        until("it waits for the database", &|status, body| {
            status == 503 && body["waitingFor"] == "the database of orders"
        })
        .await;
        servers.restart("postgres");
        // Its peer is unavailable, which only degrades it.
        until("it is ready", &|status, body| {
            status == 200 && body["status"] == "degraded" && body["dependencies"]["cache"] == "ok"
        })
        .await;
        let (_, body) = ready("ready").await;
        assert_eq!(body["dependencies"]["products"], "unavailable");
        for (name, dependency) in [("nats", "bus"), ("postgres", "database")] {
            servers.kill(name);
            until("it is not ready", &|status, body| {
                status == 503 && body["dependencies"][dependency] == "unavailable"
            })
            .await;
            servers.restart(name);
            until("it is ready again", &|status, _| status == 200).await;
        }
        // Without the cache it is only degraded.
        servers.kill("redis");
        until("it is degraded", &|status, body| {
            status == 200 && body["dependencies"]["cache"] == "unavailable"
        })
        .await;
        servers.restart("redis");
        until("it has a cache", &|_, body| {
            body["dependencies"]["cache"] == "ok"
        })
        .await;
        // It must also stop on SIGTERM while it waits.
        servers.kill("nats");
    });
    orders.signal("TERM");
    orders.wait(std::time::Duration::from_secs(10));
    let log = std::fs::read_to_string(orders.spec.log()).unwrap();
    for what in ["the event bus (NATS)", "the database of orders", "products"] {
        assert!(log.contains(&format!("waiting for {what}\"")), "{what}");
    }
    assert!(!log.contains("secret"), "no password is logged");
    drop(orders);
    drop(servers);
    let _ = std::fs::remove_dir_all(folder);
}

/// Adding the first administrator, checking a process' health, and a router that
/// overrides the subgraph URLs of its supergraph.
pub fn the_commands_of_an_operator() {
    let shop = Shop::start(Mode::Separate);
    let stoa = || {
        let mut stoa = bare_command(shop::binary());
        stoa.stdout(Stdio::piped()).stderr(Stdio::piped());
        stoa.env("STOA_DATA_DIR", shop.folder().join("data"));
        stoa
    };
    let add = |password: &str| {
        let mut add = stoa()
            .args([
                "users",
                "add",
                "--email",
                "root@stoa.test",
                "--role",
                "admin",
            ])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(add.stdin.take().unwrap(), "{password}").unwrap();
        add.wait_with_output().unwrap()
    };
    let refused = add("short");
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("10"), "{text}");
    assert!(add("a long enough secret").status.success());
    block_on(async {
        let root = shop
            .client()
            .sign_in("root@stoa.test", "a long enough secret")
            .await;
        let all = root.ok("{ users { totalCount } }", json!({})).await;
        assert_eq!(all["users"]["totalCount"], 4);
    });

    let ready = format!("{}/health/ready", shop.url);
    assert!(stoa().args(["health", &ready]).status().unwrap().success());
    shop.kill("notifications");
    let less = stoa().args(["health", &ready]).output().unwrap();
    assert!(less.status.success());
    assert!(String::from_utf8_lossy(&less.stdout).contains("\"status\":\"degraded\""));

    // Point the supergraph at an unreachable host: only the overrides below can work.
    let composed = std::fs::read_to_string(shop.folder().join("supergraph.graphql")).unwrap();
    let elsewhere = composed.replace("http://127.0.0.1:", "http://nowhere.invalid:");
    let file = shop.folder().join("elsewhere.graphql");
    std::fs::write(&file, elsewhere).unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut arguments = vec![
        "router".to_owned(),
        format!("--supergraph={}", file.display()),
        format!("--listen={listen}"),
    ];
    let unknown = stoa()
        .args(&arguments)
        .arg("--subgraph-url=carts=http://127.0.0.1:1")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no such subgraph, but"));
    for name in ["users", "products", "orders"] {
        let named = format!("name: \"{name}\", url: \"");
        let at = composed.find(&named).unwrap() + named.len();
        let url = composed[at..].split('"').next().unwrap();
        arguments.push(format!("--subgraph-url={name}={url}"));
    }
    let router = ProcessSpec {
        name: "elsewhere".into(),
        program: shop::binary().to_owned(),
        arguments,
        environment: Vec::new(),
        folder: shop.folder().to_owned(),
        signal: "KILL",
    }
    .start();
    let client = stoa_tests::Client::new(&format!("http://{listen}"));
    block_on(async {
        eventually("the router answers", || async {
            let answer = client
                .try_query("{ products(first: 1) { nodes { name } } }", &json!({}))
                .await;
            answer.is_ok_and(|answer| answer["data"]["products"]["nodes"][0]["name"].is_string())
        })
        .await;
    });
    drop(router);
    for name in ["users", "products", "orders"] {
        shop.kill(name);
    }
    let down = stoa().args(["health", &ready]).output().unwrap();
    assert!(!down.status.success());
    assert!(String::from_utf8_lossy(&down.stderr).contains("\"orders\":\"unavailable\""));
}

pub fn rate_limits() {
    let shop = Shop::start_with(Mode::One, &[]);
    block_on(async {
        let client = shop.client();
        // Limited like sign-in, but cheaper: it hashes no password.
        let guess = "mutation { refreshSession(refreshToken: \"x\") { userErrors { code } } }";
        let started = std::time::Instant::now();
        let mut limited = None;
        for attempt in 0..700_u64 {
            let answer = client.raw(guess, json!({})).await;
            if answer.status() == 429 {
                limited = Some((attempt, answer));
                break;
            }
        }
        let (attempt, answer) = limited.expect("sign-in is limited");
        // The limit refills during the loop: one request every 1.8 s.
        let refilled = started.elapsed().as_secs() * 5 / 9 + 2;
        assert!((500..=500 + refilled).contains(&attempt), "after {attempt}");
        assert!(answer.headers().contains_key("retry-after"));
        assert_eq!(
            stoa_tests::client::code(&answer.json().await.unwrap()).unwrap(),
            "RATE_LIMITED"
        );
        // Requests that are no sign-in are still allowed.
        client.ok("{ __typename }", json!({})).await;
        let mut refused = 0;
        for _ in 0..5_200 {
            refused += usize::from(client.raw("{ __typename }", json!({})).await.status() == 429);
        }
        assert!(refused > 0, "requests are limited");
    });
}

pub fn production_refuses_development() {
    let folder = std::env::temp_dir().join(format!("stoa-test-{}", key()));
    let run = |settings: &[(&str, &str)]| {
        let output = bare_command(shop::binary())
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&folder)
            .envs(settings.iter().copied())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let production = ("STOA_ENV", "production");
    assert!(run(&[production]).contains("STOA_SIGNING_KEY_FILE"));
    assert!(run(&[("STOA_ENV", "staging")]).contains("neither"));
    for (name, value) in [
        ("STOA_BUS_URL", "amqp://x"),
        ("STOA_CACHE_URL", "memcached://x"),
        ("STOA_DATABASE_POOL", "0"),
        ("STOA_TRUSTED_PROXIES", "everybody"),
        ("STOA_PAYMENTS", "cash"),
        ("STOA_FAULT_RATE", "2"),
        ("STOA_RATES_FILE", "/no/such/file"),
    ] {
        assert!(run(&[(name, value)]).contains(name), "{name}");
    }
    let stripe = ("STOA_PAYMENTS", "stripe");
    assert!(run(&[stripe]).contains("STOA_STRIPE_SECRET_KEY"));
    let orders = "STOA_ORDERS_DATABASE_URL";
    assert!(run(&[(orders, "mysql://x/y")]).contains("postgres://"));
    assert!(run(&[("STOA_RATE_LIMIT", "maybe")]).contains("STOA_RATE_LIMIT"));
    // A secret that was generated for development is rejected.
    let key_file = folder.join("key.pem");
    std::fs::create_dir_all(&folder).unwrap();
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out"])
        .arg(&key_file)
        .status();
    if made.is_ok_and(|status| status.success()) {
        let key_file = key_file.display().to_string();
        let signing = ("STOA_SIGNING_KEY_FILE", key_file.as_str());
        let text = run(&[production, signing]);
        assert!(text.contains("STOA_PAYMENTS"), "{text}");
        let text = run(&[
            production,
            signing,
            ("STOA_PAYMENTS", "sandbox"),
            (
                "STOA_INTERNAL_SECRET",
                "0123456789abcdef0123456789abcdef01234567",
            ),
            (
                "STOA_CURSOR_SECRET",
                "development-only-0123456789abcdef0123456789abcdef",
            ),
        ]);
        assert!(text.contains("refused in production"), "{text}");
    }
    let _ = std::fs::remove_dir_all(&folder);
}
