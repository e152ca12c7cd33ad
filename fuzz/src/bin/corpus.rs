//! The corpora: `replay [TARGET...]`, `pack TARGET FOLDER`, `unpack TARGET FOLDER`, `names`.
use std::path::Path;
use std::{fs, io};

use contextvm_fuzz::{TARGETS, pack};

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["replay", wanted @ ..] => replay(wanted),
        ["pack", target, folder] => {
            let inputs = pack::folder(Path::new(folder))?;
            println!("{{\"target\":\"{target}\",\"inputs\":{}}}", inputs.len());
            pack::write(target, inputs)
        }
        ["unpack", target, folder] => {
            fs::create_dir_all(folder)?;
            let mut inputs = pack::read(target)?.into_iter().enumerate();
            inputs.try_for_each(|(nth, input)| fs::write(Path::new(folder).join(format!("{nth:05}")), input))
        }
        ["names"] => {
            TARGETS.iter().for_each(|(name, _)| println!("{name}"));
            Ok(())
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "replay [TARGET...] | pack TARGET FOLDER | unpack TARGET FOLDER | names",
        )),
    }
}

/// Runs the committed corpora, one line for each target.
fn replay(wanted: &[&str]) -> io::Result<()> {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name)) {
        let mut inputs = pack::read(name)?;
        inputs.extend(pack::folder(&committed.join(name))?);
        let begun = std::time::Instant::now();
        inputs.iter().for_each(|input| target(input));
        println!(
            "{{\"target\":\"{name}\",\"inputs\":{},\"ms\":{}}}",
            inputs.len(),
            begun.elapsed().as_millis()
        );
    }
    Ok(())
}
