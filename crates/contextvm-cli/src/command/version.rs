//! `cvm version`: which program this is.
use serde::Serialize;

use crate::output::Out;
use crate::problem::Problem;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    version: &'static str,
}

pub(crate) fn run(out: &mut Out) -> Result<(), Problem> {
    if out.json {
        return out.document(&Document { schema: "cvm.version/1", version: VERSION });
    }
    out.line(&format!("cvm {VERSION}"))
}
