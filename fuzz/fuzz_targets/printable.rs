//! libFuzzer's door to `contextvm_fuzz::printable`; without libFuzzer, a program that replays the files it is given.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| contextvm_fuzz::printable(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    contextvm_fuzz::replay(contextvm_fuzz::printable)
}
