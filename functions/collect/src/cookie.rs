//! An id that collect itself gives a visitor, in a cookie that scripts cannot read: off by default.
//!
//! It is stored as `visitor_id`. Who opts out gets none; one that was given before is not stored, and the browser is told to forget
//! it. The `Cookie` header itself is never stored.
//!
//! Sources: "Cookies: HTTP State Management Mechanism", RFC 6265bis, sections 4.1 and 5.5; "Working with AWS Lambda proxy integrations for
//! HTTP APIs" (cookies are a list of their own in payload format 2.0, which function URLs share), Amazon API Gateway developer guide.

use std::fmt::Write as _;

use serde::{Deserialize, de::IgnoredAny};
use sha2::{Digest as _, Sha256};
use shared::json::Text;

use crate::{answer::Answer, request::Request};

/// The cookie's name.
const NAME: &str = "collect_id";
/// Length of an id, in hexadecimal digits.
const DIGITS: usize = 32;

/// The parts of an event that tell how it carries cookies.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Carrier<'a> {
    /// Only format 2.0 has it.
    raw_path: Option<IgnoredAny>,
    #[serde(borrow)]
    cookies: Option<Vec<Text<'a>>>,
}

/// Where an answer has its cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A list of their own: payload format 2.0.
    List,
    /// A header: a REST API and a load balancer.
    Header,
}

/// The id of a visitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    pub id: String,
    /// Whether the request brought it.
    pub is_known: bool,
}

/// Adds the cookies that format 2.0 has beside the headers to these. Returns where the answer has to have its own.
pub fn unite(event: &[u8], request: &mut Request<'_>) -> Place {
    let Ok(carrier) = serde_json::from_slice::<Carrier<'_>>(event) else { return Place::Header };
    for cookie in carrier.cookies.into_iter().flatten() {
        request.headers.push(("cookie".into(), cookie.0.into_owned().into()));
    }
    if carrier.raw_path.is_some() { Place::List } else { Place::Header }
}

/// The id that the request brought, or a new one: a hash of what the gateway says of the request, so that a repeated invocation gives the
/// same. The ids that the gateway gives each request make it unlike any other.
#[must_use]
pub fn visitor(request: &Request<'_>) -> Visitor {
    // If a client sends several `Cookie` headers, a gateway joins them with commas.
    let cookies = request.headers.iter().filter(|(name, _)| name == "cookie");
    let cookies = cookies.flat_map(|(_, value)| value.split([';', ',']));
    let sent = cookies.filter_map(|pair| pair.trim().split_once('=')).find(|(name, id)| *name == NAME && is_id(id));
    if let Some((_, id)) = sent {
        return Visitor { id: id.to_owned(), is_known: true };
    }
    let mut hash = Sha256::new();
    let time = request.time_ms.to_string();
    let trace = request.header("x-amzn-trace-id").unwrap_or_default();
    let agent = request.header("user-agent").unwrap_or_default();
    for part in [&*time, &request.id, trace, &request.source_ip, agent] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let mut id = String::with_capacity(DIGITS);
    for byte in hash.finalize().iter().take(DIGITS / 2) {
        // Writing to a string does not fail.
        let _written = write!(id, "{byte:02x}");
    }
    Visitor { id, is_known: false }
}

fn is_id(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The answer with a new id, which lives `days`, or with the end of a known one if the visitor opts out.
#[must_use]
pub fn answered(answer: Answer, visitor: &Visitor, opts_out: bool, days: u32, place: Place) -> Answer {
    let (id, days) = match (opts_out, visitor.is_known) {
        (false, false) => (&*visitor.id, days),
        (true, true) => ("", 0),
        // It lives as long as it was said at first, however often it comes back.
        (false, true) | (true, false) => return answer,
    };
    let seconds = u64::from(days) * 24 * 60 * 60;
    let cookie = format!("{NAME}={id}; Max-Age={seconds}; Path=/; HttpOnly; Secure; SameSite=Lax");
    match place {
        Place::Header => answer.with("Set-Cookie", cookie),
        Place::List => Answer { cookies: vec![cookie], ..answer },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn read(event: &str) -> (Visitor, Place) {
        let mut request = request::read(event.as_bytes()).unwrap();
        let place = unite(event.as_bytes(), &mut request);
        (visitor(&request), place)
    }

    fn http(more: &str) -> String {
        format!(r#"{{"rawPath":"/collect","requestContext":{{"timeEpoch":1,"http":{{"method":"GET"}}}}{more}}}"#)
    }

    #[test]
    fn an_id_comes_back_from_a_list_or_a_header() {
        let known = |place| (Visitor { id: ID.to_owned(), is_known: true }, place);
        assert_eq!(read(&http(&format!(r#","cookies":["a=b","collect_id={ID}"]"#))), known(Place::List));
        assert_eq!(read(&http(&format!(r#","headers":{{"Cookie":"a=b; collect_id={ID};c"}}"#))), known(Place::List));
        assert_eq!(read(&http(&format!(r#","headers":{{"Cookie":"a=b,collect_id={ID}"}}"#))), known(Place::List));
        let rest = format!(
            r#"{{"httpMethod":"GET","path":"/collect","headers":{{"cookie":"collect_id={ID}"}},"requestContext":{{"requestTimeEpoch":1}}}}"#
        );
        assert_eq!(read(&rest), known(Place::Header));
    }

    #[test]
    fn what_is_no_id_is_replaced_by_one_of_the_request() {
        let fresh = |more: &str| {
            let (Visitor { id, is_known }, _) = read(&http(more));
            assert!(!is_known && is_id(&id), "{id}");
            id
        };
        for cookie in [
            "",
            "collect_id=",
            "collect_id=me",
            "other=0123456789abcdef0123456789abcdef",
            "collect_id=0123456789ABCDEF0123456789ABCDEF",
        ] {
            fresh(&format!(r#","cookies":["{cookie}"]"#));
        }
        let traced = |trace: &str| fresh(&format!(r#","headers":{{"x-amzn-trace-id":"Root=1-{trace}"}}"#));
        assert_eq!(traced("1"), traced("1"), "an invocation that is repeated");
        assert_ne!(traced("1"), traced("2"));
    }

    #[test]
    fn scripts_cannot_read_it_and_other_sites_do_not_send_it() {
        let answered = |is_known: bool, opts_out: bool, place: Place| {
            answered(Answer::pixel(200), &Visitor { id: ID.to_owned(), is_known }, opts_out, 30, place)
        };
        let listed = answered(false, false, Place::List);
        let cookie = format!("collect_id={ID}; Max-Age=2592000; Path=/; HttpOnly; Secure; SameSite=Lax");
        assert_eq!(listed.cookies.concat(), cookie);
        assert!(serde_json::to_string(&listed).unwrap().contains("\"cookies\":["));
        let in_header = answered(false, false, Place::Header);
        assert!(in_header.cookies.is_empty() && in_header.headers.contains(&("Set-Cookie", cookie.into())));
        assert!(!serde_json::to_string(&in_header).unwrap().contains("\"cookies\""));
        let forgotten = answered(true, true, Place::List);
        assert_eq!(forgotten.cookies, ["collect_id=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax"]);
        for (is_known, opts_out) in [(false, true), (true, false)] {
            assert_eq!(answered(is_known, opts_out, Place::List), Answer::pixel(200));
        }
    }
}
