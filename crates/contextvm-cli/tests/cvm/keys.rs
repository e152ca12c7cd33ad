//! Secrets: refused on the command line, kept in files, and never shown.
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::stage::{CVM, Home, Ran, Running};

#[test]
fn a_secret_on_the_command_line_is_refused_and_never_repeated() {
    let home = Home::new();
    let nsec = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
    let hex = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa";
    for args in [
        &["--key", nsec, "demo"][..],
        &["-k", hex, "ls", "npub1sn0wdenkukak0d9dfczzeacvhkrgz92ak56egt7vdgzn8pv2wfqqhrjdv9"],
        &["ls", nsec],
        &["key", "show", nsec],
        &["key", "new", hex],
        &["key", "show", "x", hex],
        &[nsec],
        &["--bogus", nsec],
        &[&format!("--key={nsec}"), "demo"],
        &["serve", "--ephemeral", "--allow", nsec, "-r", "ws://127.0.0.1:9", "--", "sh"],
    ] {
        for json in [false, true] {
            let mut command = home.command(args);
            if json {
                command.arg("--json");
            }
            let ran = Ran::of(command.output().unwrap());
            // `demo` needs no key and ignores the reference; it still refuses the secret.
            assert_eq!(ran.code, 2, "{args:?} {ran:?}");
            let shown = format!("{}{}", ran.out, ran.err);
            assert!(!shown.contains(&nsec[5..20]) && !shown.contains(&hex[..16]), "{args:?} {shown}");
        }
    }
}

#[test]
fn a_new_key_is_in_a_file_that_only_we_can_read() {
    let home = Home::new();
    let ran = home.run(&["key", "new", "me"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let npub = ran.out.trim();
    assert!(npub.starts_with("npub1") && npub.len() == 63);
    let file = home.path().join(".config/cvm/keys/me");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    let secret = std::fs::read_to_string(&file).unwrap();
    assert!(secret.starts_with("nsec1"));
    assert_eq!(home.run(&["key", "show", "me"]).out.trim(), npub);
    assert_eq!(home.run(&["key", "show", "me", "--json"]).json()["npub"], npub);
    let again = home.run(&["key", "new", "me"]);
    assert_eq!(again.code, 8);
    assert!(again.err.contains("exists"), "{}", again.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), secret);
    assert_eq!(home.run(&["key", "new", "./dir/k"]).code, 0);
    assert_eq!(mode(&home.path().join("dir/k")), 0o600);
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let home = Home::new();
    home.run(&["key", "new", "./k"]);
    let file = home.path().join("k");
    for mode in [0o640, 0o604, 0o660, 0o610] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let ran = home.run(&["key", "show", "./k", "--json"]);
        assert_eq!(ran.code, 8, "{mode:o}");
        assert_eq!(ran.error()["code"], "insecure_permissions");
        assert!(ran.error()["hint"].as_str().unwrap().starts_with("chmod 600 "));
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(home.run(&["key", "show", "./k"]).code, 0);
    std::fs::write(&file, "nonsense").unwrap();
    assert_eq!(home.run(&["key", "show", "./k"]).code, 3);
    assert_eq!(home.run(&["key", "show", "missing"]).code, 8);
}

#[test]
fn a_key_leaves_no_trace() {
    let home = Home::new();
    home.run(&["key", "new", "canary"]);
    let nsec =
        std::fs::read_to_string(home.path().join(".config/cvm/keys/canary")).unwrap().trim().to_owned();
    let (_relay, url) = Running::relay(&home);
    let seen = home.path().join("environment");
    let script = format!("env > {}; exec {CVM} demo --stdio", seen.display());
    let mut command =
        home.command(&["serve", "-vvv", "--json", "--open", "-r", &url, "--", "sh", "-c", &script]);
    command.env("CVM_KEY", &nsec).env("OTHER_SECRET", "hunter2");
    let serve = Running::start(command);
    let ready: Value = serde_json::from_str(&serve.first).unwrap();
    let server = ready["server"].as_str().unwrap();
    let call = home.run(&["call", server, "echo", "message=x", "-r", &url, "-k", "canary", "-vvv"]);
    assert_eq!(call.out, "x\n", "{call:?}");
    let child = ready["pid"].as_u64().unwrap();
    let proc = |what: &str| std::fs::read(format!("/proc/{child}/{what}")).unwrap_or_default();
    let own = std::fs::read(format!("/proc/{}/cmdline", serve.child.id())).unwrap_or_default();
    let bounds = std::fs::read_to_string(format!("/proc/{}/limits", serve.child.id())).unwrap();
    let core = bounds.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().filter(|word| *word == "0").count() == 2, "{core}");
    let mut traces =
        vec![proc("cmdline"), proc("environ"), own, call.err.into_bytes(), serve.first.clone().into_bytes()];
    traces.push(std::fs::read(&seen).unwrap());
    traces.push(serve.end().1.into_bytes());
    let secret = bech32_bytes(&nsec);
    let reversed: Vec<u8> = secret.iter().rev().copied().collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let canaries = [
        nsec.into_bytes(),
        hex(&secret).into_bytes(),
        hex(&secret).to_uppercase().into_bytes(),
        hex(&reversed).into_bytes(),
        secret,
        reversed,
        b"hunter2".to_vec(),
    ];
    for trace in &traces {
        for canary in &canaries {
            let found = trace.windows(canary.len()).any(|window| window == canary.as_slice());
            assert!(!found, "{}", String::from_utf8_lossy(trace));
        }
    }
    assert!(traces.iter().all(|trace| !trace.is_empty()));
}

/// The 32 bytes of an `nsec`.
fn bech32_bytes(text: &str) -> Vec<u8> {
    const DIGITS: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let digits =
        text["nsec1".len()..text.len() - 6].chars().map(|c| u32::try_from(DIGITS.find(c).unwrap()).unwrap());
    let (mut out, mut bits, mut word) = (Vec::new(), 0, 0_u32);
    for digit in digits {
        word = (word << 5 | digit) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(word >> bits & 0xff).unwrap());
        }
    }
    assert_eq!(out.len(), 32);
    out
}
