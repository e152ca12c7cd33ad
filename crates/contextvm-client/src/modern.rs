//! What a client of MCP 2026-07-28 says of itself in every request, where `initialize` used to say it once.
use contextvm_core::object::{Edit, Object, ObjectError};
use contextvm_core::rewrite::PROTOCOL_VERSION;
use serde_json::value::RawValue;

/// The revision of MCP that does without `initialize`.
pub const REVISION: &str = "2026-07-28";

const META: &str = "_meta";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// The members of `params._meta` that every request of MCP 2026-07-28 carries.
///
/// ```
/// use contextvm_client::modern::ClientMeta;
/// let params = serde_json::from_str(r#"{"name":"add","_meta":{"progressToken":7}}"#)?;
/// assert_eq!(
///     ClientMeta::new("cvm", "1.0").put_into(Some(params))?.get(),
///     concat!(
///         r#"{"name":"add","_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
///         r#""io.modelcontextprotocol/clientInfo":{"name":"cvm","version":"1.0"},"#,
///         r#""io.modelcontextprotocol/clientCapabilities":{}}}"#,
///     ),
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientMeta {
    info: String,
    capabilities: String,
}

impl ClientMeta {
    /// Names the client; it has no capabilities.
    pub fn new(name: &str, version: &str) -> Self {
        let mut info = Edit::new();
        info.set_string("name", name).set_string("version", version);
        Self { info: info.to_text(), capabilities: "{}".to_owned() }
    }

    /// Sets what the client can do: the object `capabilities` of `initialize`.
    pub fn capabilities(mut self, capabilities: &RawValue) -> Self {
        capabilities.get().clone_into(&mut self.capabilities);
        self
    }

    /// Sets these members in `params._meta`; every other member keeps its text.
    ///
    /// # Errors
    /// Refuses `params`, or a `_meta` in it, that is no object.
    pub fn put_into(&self, params: Option<&RawValue>) -> Result<Box<RawValue>, ObjectError> {
        let params = Object::parse(params.map_or("{}", RawValue::get))?;
        let mut meta = Object::parse(params.get(META).map_or("{}", RawValue::get))?.into_edit();
        meta.set_string(PROTOCOL_VERSION, REVISION);
        meta.set(CLIENT_INFO, &self.info).set(CLIENT_CAPABILITIES, &self.capabilities);
        let meta = meta.to_text();
        let mut params = params.into_edit();
        params.set(META, meta);
        RawValue::from_string(params.to_text()).map_err(|_| ObjectError::NotAnObject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_are_made_when_they_are_absent_and_refused_when_they_are_no_object() {
        let value = |json: &str| RawValue::from_string(json.to_owned()).expect("json");
        let meta = ClientMeta::new("a\"b", "1").capabilities(&value(r#"{"roots":{}}"#));
        let params = meta.put_into(None).expect("params");
        assert!(
            params.get().starts_with(r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28""#)
        );
        assert!(params.get().contains(r#""name":"a\"b""#) && params.get().contains(r#":{"roots":{}}"#));
        assert_eq!(meta.put_into(Some(&params)).expect("params").get(), params.get());
        for bad in ["[]", r#"{"_meta":1}"#] {
            assert_eq!(meta.put_into(Some(&value(bad))).err(), Some(ObjectError::NotAnObject), "{bad}");
        }
    }
}
