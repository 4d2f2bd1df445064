//! Addresses and ports as people write them. Their bytes are in network order.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use serde_json::{Map, Value};

use super::number;

/// `AF_INET` of Winsock.
const AF_INET: u16 = 2;
/// `AF_INET6` of Winsock.
const AF_INET6: u16 = 23;
/// Bytes of a `SOCKADDR_IN`, of which the last eight are 0.
const SOCKET_ADDRESS_BYTES: usize = 16;

pub(super) fn parse_ipv4(value: &Value) -> Option<Vec<u8>> {
    let address: Ipv4Addr = value.as_str()?.parse().ok()?;
    Some(address.octets().to_vec())
}

pub(super) fn show_ipv4(bytes: &[u8]) -> Option<Value> {
    let bytes: [u8; 4] = bytes.try_into().ok()?;
    Some(Ipv4Addr::from(bytes).to_string().into())
}

pub(super) fn parse_ipv6(value: &Value) -> Option<Vec<u8>> {
    let address: Ipv6Addr = value.as_str()?.parse().ok()?;
    Some(address.octets().to_vec())
}

pub(super) fn show_ipv6(bytes: &[u8]) -> Option<Value> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    Some(Ipv6Addr::from(bytes).to_string().into())
}

pub(super) fn parse_port(value: &Value) -> Option<Vec<u8>> {
    Some(port(value)?.to_be_bytes().to_vec())
}

pub(super) fn show_port(bytes: &[u8]) -> Option<Value> {
    Some(u16::from_be_bytes(*bytes.first_chunk()?).into())
}

fn port(value: &Value) -> Option<u16> {
    number::integer(value).and_then(|number| u16::try_from(number).ok())
}

/// `"127.0.0.1:8080"`, or an object with `family`, `address` and `port`, of which each may be left out.
pub(super) fn parse_socket_address(value: &Value) -> Option<Vec<u8>> {
    let (family, port, address) = match value {
        Value::String(text) => {
            let both: SocketAddrV4 = text.parse().ok()?;
            (AF_INET, both.port(), both.ip().octets().to_vec())
        }
        Value::Object(parts) => {
            let known = |key: &String| matches!(key.as_str(), "family" | "address" | "port");
            if !parts.keys().all(known) {
                return None;
            }
            (
                parts.get("family").map_or(Some(AF_INET), family)?,
                parts.get("port").map_or(Some(0), port)?,
                parts.get("address").map_or(Some(vec![0; 4]), parse_ipv4)?,
            )
        }
        _ => return None,
    };
    let mut bytes = family.to_le_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend(address);
    bytes.resize(SOCKET_ADDRESS_BYTES, 0);
    Some(bytes)
}

pub(super) fn show_socket_address(bytes: &[u8]) -> Option<Value> {
    let (family, rest) = bytes.split_first_chunk()?;
    let (port, rest) = rest.split_first_chunk()?;
    let address = Ipv4Addr::from(*rest.first_chunk()?);
    let (family, port) = (u16::from_le_bytes(*family), u16::from_be_bytes(*port));
    if family == AF_INET {
        return Some(SocketAddrV4::new(address, port).to_string().into());
    }
    let mut parts = Map::new();
    parts.insert("family".to_owned(), family_name(family));
    parts.insert("address".to_owned(), address.to_string().into());
    parts.insert("port".to_owned(), port.into());
    Some(parts.into())
}

fn family(value: &Value) -> Option<u16> {
    let text = value.as_str().unwrap_or_default().to_ascii_uppercase();
    match text.trim_start_matches("AF_") {
        "INET" => Some(AF_INET),
        "INET6" => Some(AF_INET6),
        _ => number::integer(value).and_then(|number| u16::try_from(number).ok()),
    }
}

fn family_name(family: u16) -> Value {
    match family {
        AF_INET6 => "AF_INET6".into(),
        other => other.into(),
    }
}
