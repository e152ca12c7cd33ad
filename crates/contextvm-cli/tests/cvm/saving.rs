//! Images, audio and other binary content as files: `cvm call --save DIR`.
use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::large::filer;
use crate::stage::{Home, Ran, Running};

/// Everything below a directory, by its path from there.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.is_file(), "{path:?}");
        found.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
    }
    found
}

fn names(directory: &Path) -> Vec<String> {
    files(directory).into_keys().collect()
}

/// A home with a server whose tool returns this content.
struct Scene {
    home: Home,
    _relay: Running,
    _serve: Running,
    url: String,
    server: String,
}

impl Scene {
    fn of(content: Value) -> Self {
        let home = Home::new();
        let (relay, url) = Running::relay(&home);
        let (serve, server) = filer(&home, &url, &json!({ "content": content }));
        Self { home, _relay: relay, _serve: serve, url, server }
    }

    fn call(&self, more: &[&str]) -> Ran {
        let mut args = vec!["call", &self.server, "file", "-r", &self.url];
        args.extend(more);
        self.home.run(&args)
    }
}

#[test]
fn binary_content_becomes_files_that_replace_nothing() {
    let scene = Scene::of(json!([
        { "type": "text", "text": "three things" },
        { "type": "image", "data": "iVBORwA=", "mimeType": "image/png" },
        { "type": "audio", "data": "UklGRg==", "mimeType": "audio/wav" },
        { "type": "resource", "resource": { "uri": "file:///data/table.db", "blob": "AAEC/w==", "mimeType": "x/y" } },
        { "type": "resource", "resource": { "uri": "file:///note", "text": "a note" } },
    ]));
    let directory = scene.home.path().join("new/pictures");
    let ran = scene.call(&["--save", "new/pictures"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "three things\na note\n"), "{ran:?}");
    let first = files(&directory);
    let wanted: BTreeMap<String, Vec<u8>> =
        [("file-2.png", &b"\x89PNG\0"[..]), ("file-3.wav", b"RIFF"), ("table.db", &[0, 1, 2, 255])]
            .into_iter()
            .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
            .collect();
    assert_eq!(first, wanted);
    assert_eq!(
        ran.err,
        "saved new/pictures/file-2.png   5 B, image/png\nsaved new/pictures/file-3.wav   4 B, audio/wav\nsaved new/pictures/table.db   4 B, x/y\n"
    );
    let document = scene.call(&["--save", "new/pictures", "--json"]);
    assert_eq!(document.err, "");
    let document = document.json();
    let saved = json!({ "index": 4, "type": "resource", "path": "new/pictures/table-2.db", "bytes": 4, "mimeType": "x/y" });
    assert_eq!(document["saved"][2], saved);
    assert_eq!(document["result"]["content"][1]["data"], "iVBORwA=");
    let second = names(&directory);
    assert_eq!(
        second,
        ["file-2-2.png", "file-2.png", "file-3-2.wav", "file-3.wav", "table-2.db", "table.db"]
    );
    for (name, bytes) in &first {
        assert_eq!(&std::fs::read(directory.join(name)).unwrap(), bytes, "{name}");
    }
    let summed = scene.call(&[]);
    assert_eq!(summed.err, "");
    let summary = "[image image/png, 5 B; --save DIR writes it to a file]";
    assert!(summed.out.starts_with(&format!("three things\n{summary}\n")), "{}", summed.out);
    assert!(!summed.out.contains("iVBORwA="));
    assert!(scene.call(&["--json"]).json().get("saved").is_none());
}

#[test]
fn no_name_of_a_server_leads_out_of_the_directory() {
    let resource = |uri: &str| json!({ "type": "resource", "resource": { "uri": uri, "blob": "AAEC" } });
    let content: Vec<Value> = [
        "file:///../../../escaped",
        "file:///a/..%2f..%2fescaped",
        "file:///..",
        "../escaped",
        "/escaped",
        "file:///.profile",
        "file:///-rf",
        "file:///link",
        "file:///nul\u{0}byte",
        "file:///a\u{1b}[2Jb",
    ]
    .into_iter()
    .map(resource)
    .collect();
    let number = content.len();
    let scene = Scene::of(content.into());
    let directory = scene.home.path().join("save");
    std::fs::create_dir(&directory).unwrap();
    std::os::unix::fs::symlink("../escaped", directory.join("link.bin")).unwrap();
    let ran = scene.call(&["--save", "save"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!scene.home.path().join("escaped").exists(), "through the link");
    let link = std::fs::symlink_metadata(directory.join("link.bin")).unwrap();
    assert!(link.is_symlink());
    std::fs::remove_file(directory.join("link.bin")).unwrap();
    let found = files(&directory);
    assert_eq!(found.len(), number, "{found:?}");
    assert!(
        found.iter().all(|(name, bytes)| !name.starts_with(['.', '-']) && bytes == &[0, 1, 2]),
        "{found:?}"
    );
    assert_eq!(ran.err.lines().count(), number);
    assert!(!ran.err.contains(['\u{0}', '\u{1b}']), "{:?}", ran.err);
}

#[test]
fn what_is_not_base64_fails_the_command_and_spares_the_rest() {
    let scene = Scene::of(json!([
        { "type": "image", "data": "iVBORwA=", "mimeType": "image/png" },
        { "type": "image", "data": "iVBORwA", "mimeType": "image/png" },
        { "type": "audio", "data": "UklG\nRg==", "mimeType": "audio/wav" },
    ]));
    let ran = scene.call(&["--save", "save", "--json"]);
    assert_eq!((ran.code, &ran.error()["code"]), (5, &"tool_error".into()), "{ran:?}");
    let facts = ran.error()["data"]["facts"].to_string();
    assert!(facts.contains("content 2: image") && facts.contains("content 3: audio"), "{facts}");
    assert_eq!(ran.json()["saved"].as_array().unwrap().len(), 1);
    assert_eq!(names(&scene.home.path().join("save")), ["file-1.png"]);
}

#[test]
fn a_directory_that_cannot_be_is_said_before_anything_is_sent() {
    let home = Home::new();
    std::fs::write(home.path().join("file"), "").unwrap();
    let ran = home.run(&[
        "call",
        crate::stage::NOBODY,
        "t",
        "--save",
        "file/in",
        "-r",
        "ws://127.0.0.1:9",
        "--json",
    ]);
    assert_eq!((ran.code, &ran.error()["code"]), (2, &"invalid_value".into()), "{ran:?}");
}
