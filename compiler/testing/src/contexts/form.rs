//! The form in which people write a field.
//!
//! Given: a field of the platform. Computed: its form; the bytes of a value in it, and the value of bytes.
//! Safe because: [`show`] gives a value only if [`parse`] makes the same bytes of it.

use bpf2sys_platform::{Field, FieldKind, Format};
use serde_json::Value;

use super::{address, bytes, number, sid, time};

/// A form. Lists of bytes are taken in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A number, or a name of one.
    Number,
    /// `"192.0.2.1"`
    Ipv4,
    /// `"2001:db8::1"`, or hex digits.
    Ipv6,
    /// 443
    Port,
    /// `"2026-01-01T00:00:00Z"`, or a number.
    Filetime,
    /// `"S-1-5-18"`, or hex digits.
    Sid,
    /// `"127.0.0.1:8080"`, an object, or hex digits.
    SocketAddress,
    /// Hex digits.
    Bytes,
}

impl Form {
    fn of(field: &Field) -> Form {
        let bytes = field.kind == Some(FieldKind::Bytes) || field.c_type.contains('[');
        match field.format {
            Some(Format::Ipv4) => Form::Ipv4,
            Some(Format::Ipv6) => Form::Ipv6,
            Some(Format::Port) => Form::Port,
            Some(Format::Filetime) => Form::Filetime,
            Some(Format::Sid) => Form::Sid,
            Some(Format::SocketAddress) => Form::SocketAddress,
            None if bytes || field.size > number::MAX_BYTES => Form::Bytes,
            Some(Format::IpProtocol) | None => Form::Number,
        }
    }

    /// Whether hex digits without `0x` are bytes in it.
    const fn takes_hex(self) -> bool {
        matches!(self, Form::Ipv6 | Form::Sid | Form::SocketAddress | Form::Bytes)
    }

    /// Whether bytes may be left out at the end, which are 0 then.
    const fn takes_less(self) -> bool {
        matches!(self, Form::Sid | Form::Bytes)
    }
}

/// The bytes of a field with a value, as many as the field has.
pub(super) fn parse(field: &Field, value: &Value) -> Option<Vec<u8>> {
    let form = Form::of(field);
    let size = field.size as usize;
    let plain = if form.takes_hex() {
        bytes::parse(value)
    } else {
        bytes::list(value)
    };
    if let Some(mut bytes) = plain {
        let fits = bytes.len() == size || form.takes_less() && bytes.len() < size;
        bytes.resize(size, 0);
        return fits.then_some(bytes);
    }
    let mut bytes = match form {
        Form::Number => number::parse(field, value),
        Form::Ipv4 => address::parse_ipv4(value),
        Form::Ipv6 => address::parse_ipv6(value),
        Form::Port => address::parse_port(value),
        Form::Filetime => time::parse(value).map(|time| number::to_bytes(field, time)),
        Form::Sid => sid::parse(value),
        Form::SocketAddress => address::parse_socket_address(value),
        Form::Bytes => None,
    }
    .filter(|bytes| bytes.len() <= size)?;
    bytes.resize(size, 0);
    Some(bytes)
}

/// The value of a field with these bytes, as many as the field has.
pub(super) fn show(field: &Field, bytes: &[u8]) -> Value {
    let same = |value: &Value| parse(field, value).as_deref() == Some(bytes);
    let in_form = match Form::of(field) {
        Form::Number => number::show(field, bytes),
        Form::Ipv4 => address::show_ipv4(bytes),
        Form::Ipv6 => address::show_ipv6(bytes),
        Form::Port => address::show_port(bytes),
        Form::Filetime => number::from_bytes(field, bytes).and_then(time::show),
        Form::Sid => sid::show(bytes),
        Form::SocketAddress => address::show_socket_address(bytes),
        Form::Bytes => None,
    };
    let plain = || match Form::of(field) {
        Form::Number | Form::Filetime => number::show_plain(field, bytes).filter(same),
        _ => None,
    };
    in_form
        .filter(same)
        .or_else(plain)
        .unwrap_or_else(|| show_bytes(field, bytes))
}

/// The bytes of a field as such.
pub(super) fn show_bytes(field: &Field, bytes: &[u8]) -> Value {
    match Form::of(field) {
        Form::Sid => bytes::as_hex(&bytes[..sid::used(bytes).max(last(bytes))]),
        form if form.takes_hex() => bytes::as_hex(bytes),
        _ => bytes::as_list(bytes),
    }
}

/// Bytes up to the last that is not 0.
fn last(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

/// What a field that states the size of this one says, if this one has these bytes; `None` if none would be told.
pub(super) fn used(field: &Field, bytes: &[u8]) -> Option<usize> {
    match Form::of(field) {
        Form::Sid => Some(sid::used(bytes)),
        Form::SocketAddress => Some(bytes.len()),
        _ => None,
    }
}

/// What a field takes, for errors.
pub(super) fn takes(field: &Field) -> String {
    match Form::of(field) {
        Form::Number => number::takes(field),
        Form::Ipv4 => "an IPv4 address, such as \"192.0.2.1\"".to_owned(),
        Form::Ipv6 => "an IPv6 address, such as \"2001:db8::1\"".to_owned(),
        Form::Port => "a port from 0 to 65535, such as 443".to_owned(),
        Form::Filetime => "a time, such as \"2026-01-01T00:00:00Z\", or a number of 100 ns since 1601".to_owned(),
        Form::Sid => format!("a SID of up to {} bytes, such as \"S-1-5-18\"", field.size),
        Form::SocketAddress => {
            "an IPv4 address with port, such as \"127.0.0.1:8080\", an object with some of `family`, \
                                `address` and `port`, or hex digits of 16 bytes"
                .to_owned()
        }
        Form::Bytes => format!(
            "up to {} bytes as hex digits, such as \"0a1b\", or as a list, such as [10, 27]",
            field.size
        ),
    }
}
