//! A node of this project's limiter in each process, over QUIC with certificates both ways.

use super::{Embedded, Node};

pub(crate) fn start(_node: &Node, _strict: bool) -> Result<Box<dyn Embedded>, String> {
    Err("not wired".to_owned())
}
