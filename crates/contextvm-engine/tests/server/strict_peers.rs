//! The existing SDKs drop a message with any member that JSON-RPC does not name, so none goes out.
use contextvm_engine::ServerConfig;

use crate::world::{PLAIN, World, call};

#[test]
fn members_that_json_rpc_does_not_name_stay_here_and_those_inside_go_out() {
    let mut world = World::new(ServerConfig::default());
    let initialize = call(0, "initialize");
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    for text in [&initialize, &call(1, "tools/call"), &call(2, "tools/call"), initialized] {
        world.from(1, PLAIN, text);
    }
    world.done(0);
    let sent = [
        world.app(1, r#"{"jsonrpc":"2.0","extra":1,"id":"$1","result":{"own":1.0,"_meta":{"x":1e2}}}"#),
        world.app(1, r#"{"jsonrpc":"2.0","id":"$2","error":{"code":1,"message":"no","own":1.0},"_meta":{}}"#),
        world.app(1, r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"own":1.0},"extra":1}"#),
        world.broadcast(r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"own":2.0},"extra":1}"#),
    ];
    let texts = sent.map(|lines| lines[0].split_once("] ").unwrap().1.to_owned());
    assert_eq!(
        texts,
        [
            r#"{"jsonrpc":"2.0","id":1,"result":{"own":1.0,"_meta":{"x":1e2}}}"#,
            r#"{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":"no","own":1.0}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"own":1.0}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"own":2.0}}"#,
        ]
    );
}
