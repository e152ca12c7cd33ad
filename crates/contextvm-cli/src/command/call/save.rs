//! Binary content as files: decoded strictly, named harmlessly, beside what is there already.
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contextvm::core::Printable;
use serde::Serialize;

use super::content::Block;
use crate::bar::size;
use crate::output::Talk;
use crate::problem::{Code, Problem};

/// Longest name of a file without its ending, bytes.
const LONGEST_STEM: usize = 100;
/// Longest ending of a file's name, characters.
const LONGEST_ENDING: usize = 12;
/// Most files of one name.
const SAME: usize = 10_000;
/// Names that mean devices on some systems, whatever their ending.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// One file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Saved {
    /// Which block of the content it was, counted from 1.
    index: usize,
    #[serde(rename = "type")]
    kind: String,
    path: String,
    bytes: usize,
    #[serde(rename = "mimeType", skip_serializing_if = "Option::is_none")]
    mime: Option<String>,
}

/// Makes the directory, before anything is called for its sake.
pub(super) fn prepare(directory: &Path) -> Result<(), Problem> {
    std::fs::create_dir_all(directory).map_err(|error| {
        let problem =
            Problem::new(Code::InvalidValue, format!("{} cannot be made: {error}", shown(directory)));
        problem.hint("name another directory: --save DIR")
    })
}

/// Writes every block with bytes in it to a file of its own; returns what was written, and what is wrong with the rest.
pub(super) fn save(blocks: &[Block<'_>], tool: &str, directory: &Path) -> (Vec<Saved>, Option<Problem>) {
    let (mut saved, mut problem) = (Vec::new(), None::<Problem>);
    for (index, block) in (1..).zip(blocks) {
        let Some(data) = block.data else { continue };
        let Ok(bytes) = STANDARD.decode(data) else {
            let odd = problem.take().unwrap_or_else(|| {
                Problem::new(Code::ToolError, "something in the result is not base64 and was not saved")
            });
            let kind = Printable::short(block.kind, 40);
            problem = Some(odd.fact(format!("content {index}: {kind}, {} characters", data.len())));
            continue;
        };
        match write(directory, &name(block, tool, index), &bytes) {
            Ok(path) => saved.push(Saved {
                index,
                kind: block.kind.to_owned(),
                path: path.to_string_lossy().into_owned(),
                bytes: bytes.len(),
                mime: block.mime.map(ToOwned::to_owned),
            }),
            Err(error) => {
                let problem =
                    Problem::internal(format!("{} could not be written to: {error}", shown(directory)));
                return (saved, Some(problem));
            }
        }
    }
    (saved, problem)
}

/// Says what was written.
pub(super) fn tell(saved: &[Saved], talk: &Talk) {
    for file in saved {
        let mime = file.mime.as_deref().unwrap_or(&file.kind);
        let bytes = size(u64::try_from(file.bytes).unwrap_or(u64::MAX));
        talk.say(&format!("saved {}   {bytes}, {}", Printable(&file.path), Printable::short(mime, 80)));
    }
}

/// Writes a new file; where the name is taken, by a link that leads nowhere too, a number is put behind it.
fn write(directory: &Path, (stem, ending): &(String, String), bytes: &[u8]) -> std::io::Result<PathBuf> {
    for number in 1..=SAME {
        let number = if number == 1 { String::new() } else { format!("-{number}") };
        let path = directory.join(format!("{stem}{number}{ending}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => {
                return fill(file, bytes).map(|()| path.clone()).inspect_err(|_| {
                    // Half a file is worse than none.
                    let _kept = std::fs::remove_file(&path);
                });
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::new(ErrorKind::AlreadyExists, format!("there are {SAME} files of that name")))
}

fn fill(mut file: File, bytes: &[u8]) -> std::io::Result<()> {
    file.write_all(bytes)?;
    file.flush()
}

/// Names a file, in two parts: by the resource that it is, else by the tool and its place.
fn name(block: &Block<'_>, tool: &str, index: usize) -> (String, String) {
    let (stem, ending) = block.uri.and_then(of_resource).unwrap_or_else(|| {
        let tool = harmless(tool);
        (format!("{}-{index}", if tool.is_empty() { "content" } else { &tool }), String::new())
    });
    let stem = stem.get(..stem.floor_char_boundary(LONGEST_STEM)).unwrap_or_default().to_owned();
    let first = stem.split('.').next().unwrap_or_default().trim_end_matches(|c: char| c.is_ascii_digit());
    let is_device = DEVICES.iter().any(|device| first.eq_ignore_ascii_case(device));
    let stem = if is_device { format!("_{stem}") } else { stem };
    let usual = || block.mime.and_then(usual_ending).unwrap_or(".bin").to_owned();
    let ending = if ending.is_empty() { usual() } else { ending };
    (stem, ending)
}

/// Takes the last segment of a URI apart; `None` when nothing harmless is in it.
fn of_resource(uri: &str) -> Option<(String, String)> {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let path =
        path.split_once("://").map_or(path, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    let segment = path.rsplit(['/', ':']).next().unwrap_or_default();
    let name = harmless(&unescaped(segment));
    let (stem, ending) = match name.rsplit_once('.') {
        Some((stem, ending))
            if !stem.is_empty() && (1..=LONGEST_ENDING).contains(&ending.chars().count()) =>
        {
            (stem.to_owned(), format!(".{ending}"))
        }
        Some(_) | None => (name, String::new()),
    };
    (!stem.is_empty()).then_some((stem, ending))
}

/// Undoes percent escapes; a text that they do not make UTF-8 of stays as it is.
fn unescaped(segment: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(segment.len()), segment.as_bytes());
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = escaped.and_then(|two| u8::from_str_radix(str::from_utf8(two).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| segment.to_owned())
}

/// Keeps letters, digits, dots, dashes and underscores; a name neither begins nor ends with a dot.
fn harmless(name: &str) -> String {
    let kept =
        |c: char| c.is_alphanumeric() && Printable(c.encode_utf8(&mut [0; 4])).to_string().starts_with(c);
    let name: String =
        name.chars().map(|c| if matches!(c, '.' | '-' | '_') || kept(c) { c } else { '_' }).collect();
    // A dash at the beginning would make it an option of whatever is run on it, a dot would hide it.
    name.trim_start_matches(['.', '_', '-']).trim_end_matches(['.', '_']).to_owned()
}

/// The usual ending of files of a type.
fn usual_ending(mime: &str) -> Option<&'static str> {
    let mime = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Some(match mime.as_str() {
        "image/png" => ".png",
        "image/jpeg" | "image/jpg" => ".jpg",
        "image/gif" => ".gif",
        "image/webp" => ".webp",
        "image/svg+xml" => ".svg",
        "image/avif" => ".avif",
        "image/bmp" => ".bmp",
        "image/tiff" => ".tiff",
        "audio/mpeg" | "audio/mp3" => ".mp3",
        "audio/wav" | "audio/x-wav" | "audio/wave" => ".wav",
        "audio/ogg" => ".ogg",
        "audio/flac" | "audio/x-flac" => ".flac",
        "audio/aac" => ".aac",
        "audio/mp4" | "audio/x-m4a" => ".m4a",
        "audio/webm" | "video/webm" => ".webm",
        "video/mp4" => ".mp4",
        "application/pdf" => ".pdf",
        "application/zip" => ".zip",
        "application/gzip" | "application/x-gzip" => ".gz",
        "application/json" => ".json",
        "text/plain" => ".txt",
        "text/html" => ".html",
        "text/csv" => ".csv",
        "text/markdown" => ".md",
        _ => return None,
    })
}

fn shown(path: &Path) -> String {
    Printable::short(&path.to_string_lossy(), 200).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(uri: Option<&str>, mime: Option<&str>, tool: &str) -> String {
        let block = Block { kind: "resource", text: None, data: Some(""), mime, uri };
        let (stem, ending) = name(&block, tool, 3);
        format!("{stem}{ending}")
    }

    #[test]
    fn names_come_from_the_resource_else_from_the_tool() {
        for (uri, mime, wanted) in [
            (None, Some("image/png"), "snapshot-3.png"),
            (None, Some("IMAGE/JPEG; q=1"), "snapshot-3.jpg"),
            (None, Some("x/unheard-of"), "snapshot-3.bin"),
            (None, None, "snapshot-3.bin"),
            (Some("file:///a/b/holiday.tar.gz"), Some("image/png"), "holiday.tar.gz"),
            (Some("https://a.example/b/pic?size=9#top"), Some("image/webp"), "pic.webp"),
            (Some("https://a.example"), None, "snapshot-3.bin"),
            (Some("urn:isbn:0451450523"), None, "0451450523.bin"),
            (Some("file:///m%C3%BCll%20%231.pdf"), None, "müll__1.pdf"),
            (Some("file:///100%/%zz%"), None, "zz.bin"),
            (Some("file:///dir/"), None, "snapshot-3.bin"),
        ] {
            assert_eq!(named(uri, mime, "snapshot"), wanted, "{uri:?} {mime:?}");
        }
    }

    #[test]
    fn no_name_leads_elsewhere_or_looks_like_something_else() {
        for uri in [
            "file:///../../etc/passwd",
            "file:///-.bashrc",
            "file:///a/..",
            "file:///a/.",
            "file:///..%2f..%2fetc%2fpasswd",
            "file:///%2e%2e%5c%2e%2e%5cboot.ini",
            "file:///.bashrc",
            "file:///-rf",
            "file:///a%00b.png",
            "file:///a\u{202e}gnp.exe",
            "file:///%1b%5b2J.txt",
            "file:///con.txt",
            "file:///COM1",
            "C:\\windows\\system32",
            "..",
            "",
            "file:///\u{3164}",
            "file:///a:b",
            "....//....//x",
        ] {
            let name = named(Some(uri), None, "../t\u{1b}");
            let path = Path::new(&name);
            assert_eq!(path.components().count(), 1, "{uri} {name}");
            assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(name.as_str()), "{uri} {name}");
            assert_eq!(Printable(&name).to_string(), name, "{uri}");
            assert!(
                !name.starts_with(['.', '-']) && !name.ends_with('.') && !name.contains(['\\', ':']),
                "{uri} {name}"
            );
            let stem = name.split('.').next().unwrap().to_ascii_lowercase();
            assert!(!["con", "com1"].contains(&stem.as_str()), "{uri} {name}");
        }
        let long = named(Some(&format!("file:///{}.{}", "ü".repeat(400), "e".repeat(12))), None, "t");
        assert!(long.len() < 128 && long.ends_with(".eeeeeeeeeeee"), "{long}");
    }

    #[test]
    fn what_is_not_exactly_base64_is_refused() {
        for data in ["AA", "A===", "AA==\n", "AB==", "AA-_", "A A=", "AAA=AAAA", "é"] {
            let block = Block { kind: "image", text: None, data: Some(data), mime: None, uri: None };
            let directory = tempfile::tempdir().unwrap();
            let (saved, problem) = save(&[block], "t", directory.path());
            assert!(
                saved.is_empty() && problem.is_some_and(|problem| problem.is(Code::ToolError)),
                "{data:?}"
            );
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }
}
