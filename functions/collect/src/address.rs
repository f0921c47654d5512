//! IP addresses: how they are shortened, and which headers carry them.
//!
//! Source of `Forwarded`: RFC 7239.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Shortens an address, with or without a port, to /24 (IPv4) or /48 (IPv6). `None` when the text is no address.
///
/// An IPv4 address within an IPv6 address, mapped (`::ffff:a.b.c.d`) or 6to4 (`2002:aabb:ccdd::`), is shortened as IPv4.
#[must_use]
pub fn shorten(address: &str) -> Option<IpAddr> {
    let address = parse_address(address)?.to_canonical();
    Some(match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(address) => match address.segments() {
            [0x2002, high, low, ..] => Ipv6Addr::new(0x2002, high, low & 0xff00, 0, 0, 0, 0, 0).into(),
            [a, b, c, ..] => Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into(),
        },
    })
}

/// An address, with or without a port, a zone, quotes and brackets.
pub(crate) fn parse_address(text: &str) -> Option<IpAddr> {
    // fe80::1%eth0 has a zone, which `IpAddr` does not parse.
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let bare = bare.split_once('%').map_or(bare, |(address, _)| address);
    bare.parse().ok().or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

/// Whether a header carries the addresses of clients or proxies. Knows the names that proxies and content delivery
/// networks use. Names are in lower case.
pub(crate) fn carries_addresses(name: &str) -> bool {
    let is_word = |word: &str| name.split(['-', '_']).any(|part| part == word);
    name.contains("forwarded-for")
        || is_word("ip")
        || is_word("ipv6")
        || is_word("clientip")
        || is_word("addr")
        || (is_word("address") && (is_word("viewer") || is_word("client") || is_word("remote") || is_word("external")))
}

/// Whether a header names the server or the site that a request is about, never its client. Names are in lower case.
pub(crate) fn is_about_the_server(name: &str) -> bool {
    matches!(name, "host" | "origin" | "via" | "x-forwarded-host" | "x-forwarded-server" | "x-original-host")
}

/// The value of `Forwarded` with the addresses of client and proxies shortened. Obfuscated names and unknown parameters are
/// dropped.
pub(crate) fn forwarded(value: &str) -> Option<String> {
    let elements = value.split(',').map(|element| {
        let pairs = element.split(';').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = name.trim().to_ascii_lowercase();
            match name.as_str() {
                "proto" | "host" => Some(format!("{name}={}", value.trim())),
                "for" | "by" => Some(match shorten(value)? {
                    IpAddr::V4(address) => format!("{name}={address}"),
                    IpAddr::V6(address) => format!("{name}=\"[{address}]\""),
                }),
                _ => None,
            }
        });
        pairs.collect::<Vec<_>>().join(";")
    });
    let elements: Vec<_> = elements.filter(|element| !element.is_empty()).collect();
    Some(elements.join(", ")).filter(|elements| !elements.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_shortened() {
        for (address, expected) in [
            ("203.0.113.77", Some("203.0.113.0")),
            (" 203.0.113.77:443 ", Some("203.0.113.0")),
            ("2001:db8:85a3:8d3:1319:8a2e:370:7348", Some("2001:db8:85a3::")),
            ("[2001:db8:85a3:8d3::1]:8080", Some("2001:db8:85a3::")),
            ("\"[2001:db8:85a3:8d3::1]\"", Some("2001:db8:85a3::")),
            ("::ffff:203.0.113.77", Some("203.0.113.0")),
            ("2002:cb00:714d::1", Some("2002:cb00:7100::")),
            ("fe80::1%eth0", Some("fe80::")),
            ("::1", Some("::")),
            ("203.0.113", None),
            ("unknown", None),
            ("", None),
            ("203.0.113.77, 10.0.0.1", None),
        ] {
            assert_eq!(shorten(address).map(|address| address.to_string()).as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn only_client_and_proxies_of_forwarded_are_shortened() {
        for (value, expected) in [
            (
                "for=203.0.113.77;proto=https;by=_x, For=\"[2001:db8:1:2::3]:80\"",
                Some("for=203.0.113.0;proto=https, for=\"[2001:db8:1::]\""),
            ),
            ("for=_hidden", None),
            ("for=127.0.0.1;host=127.0.0.1:8080", Some("for=127.0.0.0;host=127.0.0.1:8080")),
        ] {
            assert_eq!(forwarded(value).as_deref(), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn shortened_addresses_stay(v4 in any::<u32>(), v6 in any::<u128>()) {
            for address in [IpAddr::from(Ipv4Addr::from(v4)), Ipv6Addr::from(v6).into()] {
                let once = shorten(&address.to_string()).unwrap();
                prop_assert_eq!(shorten(&once.to_string()), Some(once));
            }
        }
    }
}
