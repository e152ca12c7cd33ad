//! The name that was checked is the name that every parser sees in the line for the child.
use super::*;

/// Writes one name in many ways; some of them are no JSON that everybody reads alike.
fn spellings() -> Vec<String> {
    let names = [
        "add",
        "Add",
        "add ",
        " add",
        "ad\u{435}",
        "\u{e9}",
        "e\u{301}",
        "\u{fb01}",
        "a\u{200b}dd",
        "\u{1f600}",
        "",
    ];
    let mut out = Vec::new();
    for seed in 0..500_u32 {
        for name in names {
            let spell = |c: char, place: u32| match (seed >> (place % 9)) & 3 {
                1 if u32::from(c) < 0x1_0000 => format!("\\u{:04x}", u32::from(c)),
                2 if u32::from(c) < 0x1_0000 => format!("\\u{:04X}", u32::from(c)),
                _ => c.to_string(),
            };
            let spelled: String = name.chars().zip(0..).map(|(c, place)| spell(c, place)).collect();
            out.push(match seed % 7 {
                0 => format!(r#"{{"n\u0061me":"{spelled}"}}"#),
                1 => format!(r#"{{"Name":"other","name":"{spelled}","name ":"x"}}"#),
                2 => format!(r#"{{"name":"{spelled}","n\u0061me":"twice"}}"#),
                3 => format!(
                    r#"{{"arguments":{{"name":"inner"}},"name":"{spelled}","_meta":{{"name":"meta"}}}}"#
                ),
                4 => format!(r#"{{"name":"{spelled}\ud800"}}"#),
                5 => format!("{{ \"name\"\n:\t\"{spelled}\" }}"),
                _ => format!(r#"{{"name":"{spelled}"}}"#),
            });
        }
    }
    out
}

/// Lets another parser read the lines and say which names it saw; `None` when it is not installed.
fn seen_by(program: &str, script: &str, lines: &[String]) -> Option<Vec<String>> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new(program)
        .args([if program == "node" { "-e" } else { "-c" }, script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut input = child.stdin.take()?;
    let text = lines.join("\n") + "\n";
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().ok()?;
    writing.join().ok()?.ok()?;
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn one_name_everywhere() {
    let limits = Limits::default();
    let (mut lines, mut checked, mut refused) = (Vec::new(), Vec::new(), 0);
    for params in spellings() {
        let mut switch = ready();
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"tools/call","params":{params}}}"#, hex(10));
        let Ok(message) = Envelope::parse(&text, &limits) else {
            refused += 1;
            assert!(ask(&mut switch, 1, 10, "tools/call", &params, false).is_empty());
            continue;
        };
        let capability = contextvm_core::Capability::of(&message).unwrap();
        checked.push(capability.name.unwrap());
        lines.push(to_child(&ask(&mut switch, 1, 10, "tools/call", &params, false))[0].to_owned());
    }
    assert!(lines.len() > 3_000 && refused > 1_000, "{} {refused}", lines.len());
    let read = |line: &String| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["params"]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(lines.iter().map(read).collect::<Vec<_>>(), checked);
    let python =
        "import sys,json\nfor l in sys.stdin.buffer: print(json.dumps(json.loads(l)['params']['name']))";
    let node = "for (const l of require('fs').readFileSync(0,'utf8').split('\\n')) if (l) console.log(JSON.stringify(JSON.parse(l).params.name))";
    for (program, script) in [("python3", python), ("node", node)] {
        match seen_by(program, script, &lines) {
            Some(seen) => assert_eq!(seen, checked, "{program}"),
            None => eprintln!("skipped {program}: it is not installed"),
        }
    }
}
