//! Reads what a server has announced, with the existing Rust SDK, and prints one JSON line for each step.
use contextvm_interop_rs_sdk::Options;
use contextvm_sdk::{RelayPool, discovery};
use serde_json::{Value, json};

type Outcome = Result<Value, String>;

struct Steps {
    ran: usize,
    failed: Vec<&'static str>,
}

impl Steps {
    fn take(&mut self, step: &'static str, outcome: Outcome) {
        self.ran += 1;
        let ok = outcome.is_ok();
        let detail = outcome.unwrap_or_else(Value::String);
        println!("{}", json!({ "step": step, "ok": ok, "detail": detail, "ms": 0 }));
        if !ok {
            self.failed.push(step);
        }
    }
}

fn named(tools: &[Value]) -> Outcome {
    let names: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    match ["echo", "add"].iter().find(|name| !names.contains(name)) {
        Some(name) => Err(format!("tool missing: {name}")),
        None => Ok(json!(names)),
    }
}

#[tokio::main]
async fn main() {
    let options = Options::read(true);
    let mut steps = Steps { ran: 0, failed: Vec::new() };
    let key = match nostr_sdk::PublicKey::from_hex(&options.server) {
        Ok(key) => key,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(2)
        }
    };
    let pool = RelayPool::new(options.keys()).await.map_err(|error| error.to_string());
    let relays = &options.relays;
    match pool {
        Err(error) => steps.take("connect", Err(error)),
        Ok(pool) => {
            let connected = pool.connect(relays).await.map(|()| json!("")).map_err(|error| error.to_string());
            steps.take("connect", connected);
            let client = pool.client();
            let servers = discovery::discover_servers(client, relays).await.map_err(|error| error.to_string());
            let found = servers.and_then(|servers| {
                let ours = servers.into_iter().find(|server| server.pubkey_parsed == key);
                let ours = ours.ok_or_else(|| "the server is not among those found".to_owned())?;
                if ours.capabilities.is_none() || ours.protocol_version.is_none() {
                    return Err("the announcement was not read as an answer to initialize".to_owned());
                }
                Ok(json!({ "name": ours.server_info.name, "protocol": ours.protocol_version }))
            });
            steps.take("server", found);
            let tools = discovery::discover_tools(client, &key, relays).await.map_err(|error| error.to_string());
            steps.take("tools", tools.and_then(|tools| named(&tools)));
            let typed = discovery::discover_tools_typed(client, &key, relays).await;
            let typed = typed.map(|tools| json!(tools.len())).map_err(|error| error.to_string());
            steps.take("typed-tools", typed);
        }
    }
    let ok = steps.failed.is_empty();
    println!("{}", json!({ "step": "done", "ok": ok, "detail": { "ran": steps.ran, "failed": steps.failed } }));
    std::process::exit(i32::from(!ok))
}
