//! What a parser of ours takes, the parsers of other languages read alike (T53).
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use contextvm_core::object::compact;
use contextvm_core::{Envelope, Limits};
use serde_json::Value;

use crate::languages::{Language, NODE, PYTHON};

/// How many texts are tried.
const TEXTS: usize = 100_000;

/// Messages that texts are made from.
const SEEDS: [&str; 8] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add","arguments":{"a":-0.5e-3,"b":[1,2]}}}"#,
    r#"{"jsonrpc":"2.0","id":"x\u00e9\ud83d\ude00","method":"tools/call","params":{"name":"\u0061dd"}}"#,
    r#"{ "method" : "a" , "jsonrpc" : "2.0" , "params" : { "" : { "k" : [ null , true , false , {} , [] ] } } }"#,
    r#"{"jsonrpc":"2.0","id":9007199254740993,"result":{"big":123456789012345678901234567890,"small":1e-400}}"#,
    r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32600,"message":"\"\\\/\b\f\n\r\t","data":1E+2}}"#,
    r#"{"jsonrpc":"2.0","method":"n","params":{"__proto__":{"a":1},"constructor":2,"1":3,"01":4}}"#,
    "{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":{\"t\":\"\u{2028}\u{7f}\u{feff}e\u{301}\u{10ffff}\"}}",
    r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":"t"},"name":"x"}}"#,
];

/// Pieces that are put into them.
const PIECES: [&str; 40] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "0",
    "1",
    "-",
    "+",
    ".",
    "e",
    "E5",
    "00",
    "1e400",
    "-0",
    "-0.0",
    "0x10",
    "NaN",
    "-Infinity",
    "null",
    "tru",
    " ",
    "\t",
    "\n",
    "\r",
    "\u{0}",
    "\u{b}",
    "\u{a0}",
    "\u{feff}",
    "\\u0061",
    "\\ud800",
    "\\udc00",
    "\\x41",
    "'a'",
    "/**/",
    r#""name":"other","#,
    r#""n\u0061me":1,"#,
];

/// Numbers that look like chance and are the same each time (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most as u64) as usize
    }
}

/// Makes one text: a message with one to three pieces put in, put in place of a character, or taken out.
fn text(numbers: &mut Numbers) -> String {
    let mut text = SEEDS[numbers.below(SEEDS.len())].to_owned();
    for _ in 0..=numbers.below(3) {
        let at = text.floor_char_boundary(numbers.below(text.len()));
        let end = text.ceil_char_boundary(at + 1);
        match numbers.below(3) {
            0 => text.insert_str(at, PIECES[numbers.below(PIECES.len())]),
            1 => text.replace_range(at..end, PIECES[numbers.below(PIECES.len())]),
            _ => drop(text.drain(at..end)),
        }
    }
    text
}

/// Writes what a value is, whatever its spelling: numbers as doubles without the sign of zero, text in UTF-16.
fn print(value: &Value, out: &mut String) {
    let units = |text: &str| text.encode_utf16().map(|unit| format!("{unit:04x}")).collect::<String>();
    match value {
        Value::Null => out.push('n'),
        Value::Bool(value) => out.push(if *value { 't' } else { 'f' }),
        Value::Number(number) => {
            let number: f64 = number.to_string().parse().unwrap();
            write!(out, "d{:016x}", (number + 0.0).to_bits()).unwrap();
        }
        Value::String(text) => write!(out, "s{}", units(text)).unwrap(),
        Value::Array(items) => {
            out.push('[');
            items.iter().for_each(|item| print(item, out));
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().map(|(key, value)| (units(key), value)).collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            out.push('{');
            for (key, value) in members {
                write!(out, "k{key}:").unwrap();
                print(value, out);
            }
            out.push('}');
        }
    }
}

const IN_PYTHON: &str = r#"
import sys, json, struct
units = lambda s: s.encode('utf-16-be', 'surrogatepass').hex()
def show(v):
    if v is None: return 'n'
    if v is True: return 't'
    if v is False: return 'f'
    if isinstance(v, (int, float)): return 'd' + struct.pack('>d', float(v) + 0.0).hex()
    if isinstance(v, str): return 's' + units(v)
    if isinstance(v, list): return '[' + ''.join(map(show, v)) + ']'
    return '{' + ''.join('k' + k + ':' + show(x) for k, x in sorted((units(k), x) for k, x in v.items())) + '}'
for line in sys.stdin.buffer:
    try: print(show(json.loads(line.rstrip(b'\n'))))
    except Exception as error: print('!', repr(error))
"#;

const IN_NODE: &str = r#"
const hex = (n, w) => n.toString(16).padStart(w, '0')
const units = s => { let out = ''; for (let i = 0; i < s.length; i++) out += hex(s.charCodeAt(i), 4); return out }
const double = n => { const b = Buffer.alloc(8); b.writeDoubleBE(n + 0); return b.toString('hex') }
const show = v => {
  if (v === null) return 'n'
  if (v === true) return 't'
  if (v === false) return 'f'
  if (typeof v === 'number') return 'd' + double(v)
  if (typeof v === 'string') return 's' + units(v)
  if (Array.isArray(v)) return '[' + v.map(show).join('') + ']'
  const keys = Object.keys(v).map(k => [units(k), v[k]]).sort((a, b) => a[0] < b[0] ? -1 : 1)
  return '{' + keys.map(([k, x]) => 'k' + k + ':' + show(x)).join('') + '}'
}
const out = []
for (const line of require('fs').readFileSync(0, 'utf8').split('\n').slice(0, -1)) {
  try { out.push(show(JSON.parse(line))) } catch (error) { out.push('! ' + error.message.replace(/\n/g, ' ')) }
}
process.stdout.write(out.join('\n') + '\n')
"#;

/// Lets another language read lines, and returns what each is to it.
fn read_by(program: &str, args: [&str; 2], lines: &[String]) -> Vec<String> {
    let mut command = Command::new(program);
    let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = lines.join("\n") + "\n";
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(ToOwned::to_owned).collect()
}

fn what_we_take_is_read_alike(language: Language, args: [&str; 2]) {
    let (limits, mut numbers) = (Limits::default(), Numbers(53));
    let (mut lines, mut wanted) = (Vec::new(), Vec::new());
    for _ in 0..TEXTS {
        let text = text(&mut numbers);
        if Envelope::parse(&text, &limits).is_err() {
            continue;
        }
        let line = compact(&text);
        assert!(!line.contains(['\n', '\r', '\0']), "{line:?}");
        let mut shown = String::new();
        print(&serde_json::from_str(&line).unwrap(), &mut shown);
        lines.push(line);
        wanted.push(shown);
    }
    assert!(lines.len() > TEXTS / 20 && lines.len() < TEXTS / 2, "{} of {TEXTS} taken", lines.len());
    let read = read_by(&language.interpreter().unwrap(), args, &lines);
    assert_eq!(read.len(), lines.len());
    let mut differences =
        lines.iter().zip(read.iter().zip(&wanted)).filter(|(_, (read, wanted))| read != wanted);
    assert_eq!(differences.next(), None, "and {} more", differences.count());
}

#[test]
fn what_we_take_is_read_alike_by_python() {
    if PYTHON.is_here("what_we_take_is_read_alike_by_python") {
        what_we_take_is_read_alike(PYTHON, ["-c", IN_PYTHON]);
    }
}

#[test]
fn what_we_take_is_read_alike_by_node() {
    if NODE.is_here("what_we_take_is_read_alike_by_node") {
        what_we_take_is_read_alike(NODE, ["-e", IN_NODE]);
    }
}
