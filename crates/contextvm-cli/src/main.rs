//! cvm
fn main(){}
