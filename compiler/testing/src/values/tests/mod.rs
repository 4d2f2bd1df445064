//! Values of types that are made here.

mod hostile;
mod json;
mod maps;
mod round_trips;

use bpf2sys_bytecode::{DataMember, DataType, DataTypes, TypeIndex};

use super::*;

/// Types in the making.
#[derive(Default)]
struct Types(DataTypes);

impl Types {
    fn add(&mut self, added: DataType) -> TypeIndex {
        self.0.add(added).unwrap()
    }

    fn integer(&mut self, name: &str, size: u32) -> TypeIndex {
        let signed = matches!(name, "int" | "long" | "signed char" | "char" | "__int128");
        self.add(DataType::Integer {
            name: name.to_owned(),
            size,
            signed,
            boolean: name == "_Bool",
        })
    }

    fn array(&mut self, element: TypeIndex, count: u32) -> TypeIndex {
        self.add(DataType::Array { element, count })
    }

    fn enumeration(&mut self, size: u32, signed: bool, values: &[(&str, i64)]) -> TypeIndex {
        self.add(DataType::Enumeration {
            name: Some("verdict".to_owned()),
            size,
            signed,
            values: values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
        })
    }

    /// Members by name, type, place in bits, and bits of a bit field.
    fn structure(&mut self, union: bool, size: u32, members: &[(&str, TypeIndex, u32, Option<u8>)]) -> TypeIndex {
        let members = members.iter().map(|(name, of, bit_offset, bit_width)| DataMember {
            name: (*name).to_owned(),
            of: *of,
            bit_offset: *bit_offset,
            bit_width: *bit_width,
        });
        let members = members.collect();
        self.add(DataType::Struct {
            name: None,
            size,
            union,
            members,
        })
    }
}

/// A structure with a part of every kind.
fn everything() -> (Types, TypeIndex) {
    let mut types = Types::default();
    let u8 = types.integer("unsigned char", 1);
    let u16 = types.integer("unsigned short", 2);
    let u32 = types.integer("unsigned int", 4);
    let i64 = types.integer("long", 8);
    let char = types.integer("char", 1);
    let bool = types.integer("_Bool", 1);
    let action = types.enumeration(4, true, &[("PASS", 1), ("DROP", 2), ("FAIL", -1)]);
    let name = types.array(char, 8);
    let mac = types.array(u8, 6);
    let part = types.array(u8, 4);
    let list = types.array(u16, 2);
    let pointer = types.add(DataType::Pointer);
    let double = types.add(DataType::Float {
        name: "double".to_owned(),
        size: 8,
    });
    let union = types.structure(true, 4, &[("word", u32, 0, None), ("part", part, 0, None)]);
    let inner = types.structure(false, 8, &[("flag", bool, 0, None), ("", union, 32, None)]);
    let all = types.structure(
        false,
        64,
        &[
            ("port", u16, 0, None),
            ("few", u16, 16, Some(3)),
            ("many", u16, 19, Some(13)),
            ("action", action, 32, None),
            ("name", name, 64, None),
            ("mac", mac, 128, None),
            ("list", list, 176, None),
            ("", inner, 224, None),
            ("next", pointer, 320, None),
            ("share", double, 384, None),
            ("change", i64, 448, None),
        ],
    );
    (types, all)
}

fn parse(text: &str) -> Json {
    Json::parse(text).unwrap()
}

const EVERYTHING: &str = r#"{"port":53,"few":5,"many":4097,"action":"DROP","name":"dns","mac":"hex:0a0000000001","list":[1,2],
    "flag":true,"word":67305985,"part":"hex:01020304","next":"0xffff800000000000","share":0.1,"change":-5}"#;

#[test]
fn a_structure_is_shown_as_it_is_declared() {
    let (types, all) = everything();
    let bytes = from_json(&types.0, all, &parse(EVERYTHING)).unwrap();
    assert_eq!(bytes[2..4], (4097_u16 << 3 | 5).to_le_bytes());
    assert_eq!(bytes[32..36], [1, 2, 3, 4]);
    let shown = to_json(&types.0, all, &bytes);
    assert_eq!(serde_json::to_string(&shown).unwrap(), EVERYTHING.replace("\n    ", ""));
    assert_eq!(
        to_text(&types.0, all, &bytes),
        "{ port = 53, few = 5, many = 4097, action = DROP, name = \"dns\", mac = hex:0a0000000001, list = [1, 2], \
         flag = true, word = 67305985, part = hex:01020304, next = 0xffff800000000000, share = 0.1, change = -5 }"
    );
    assert!(exact(&types.0, all, &bytes));
    assert_eq!(shown.get("action"), Some(&Json::from("DROP")));
    // What serde_json makes of it is the same value.
    let other: serde_json::Value = serde_json::from_str(EVERYTHING).unwrap();
    assert_eq!(from_json(&types.0, all, &other.into()).unwrap(), bytes);
    assert_eq!(
        serde_json::Value::from(shown),
        serde_json::from_str::<serde_json::Value>(EVERYTHING).unwrap()
    );
}

#[test]
fn what_the_types_do_not_show_is_not_exact() {
    let (types, all) = everything();
    let bytes = from_json(&types.0, all, &parse(EVERYTHING)).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        bytes
    };
    // Padding behind the flag.
    assert!(!exact(&types.0, all, &changed(29, 1)));
    // A truth value that is neither, text with something behind its end, and no number at all.
    for (changed, member, shown) in [
        (changed(28, 2), "flag", "2"),
        (changed(15, 1), "name", "hex:646e730000000001"),
        (changed(55, 0x7f), "share", "1.797693134862316e307"),
        (
            [&bytes[..48], &[0xff; 8], &bytes[56..]].concat(),
            "share",
            "hex:ffffffffffffffff",
        ),
        (changed(4, 9), "action", "9"),
        (
            [&bytes[..8], b"hex:0000", &bytes[16..]].concat(),
            "name",
            "hex:6865783a30303030",
        ),
        (changed(8, 7), "name", "hex:076e730000000000"),
    ] {
        let json = to_json(&types.0, all, &changed);
        assert_eq!(json.get(member).unwrap().to_string(), shown, "{member}");
        assert!(exact(&types.0, all, &changed), "{member}");
    }
    // Too short, and too long.
    assert_eq!(to_text(&types.0, all, &[1, 2]), "hex:0102");
    assert!(!exact(&types.0, all, &[0; 65]));
}

#[test]
fn people_may_write_it_in_other_ways() {
    let (types, all) = everything();
    for (given, same) in [
        (r#"{"port":"0x35"}"#, r#"{"port":53}"#),
        (r#"{"port":53.0}"#, r#"{"port":53}"#),
        (r#"{"port":"hex:3500"}"#, r#"{"port":53}"#),
        (r#"{"port":"hex: 35 00"}"#, r#"{"port":53}"#),
        (r#"{"action":-1}"#, r#"{"action":"FAIL"}"#),
        (r#"{"action":"0x2"}"#, r#"{"action":"DROP"}"#),
        (r#"{"flag":1}"#, r#"{"flag":true}"#),
        (r#"{"flag":"true"}"#, r#"{"flag":true}"#),
        (r#"{"name":[100,110]}"#, r#"{"name":"dn"}"#),
        (r#"{"mac":[1]}"#, r#"{"mac":"hex:010000000000"}"#),
        (r#"{"list":[1]}"#, r#"{"list":[1,0]}"#),
        (r#"{"word":1}"#, r#"{"part":"hex:01000000"}"#),
        (r#"{"next":16}"#, r#"{"next":"0x10"}"#),
        (r#"{"share":"inf"}"#, r#"{"share":"hex:000000000000f07f"}"#),
        (
            r#"{"change":"-0x8000000000000000"}"#,
            r#"{"change":-9223372036854775808}"#,
        ),
    ] {
        let read = |text| from_json(&types.0, all, &parse(text)).unwrap();
        assert_eq!(read(given), read(same), "{given}");
    }
}

#[test]
fn errors_name_the_part_that_is_wrong() {
    let (types, all) = everything();
    for (given, message) in [
        ("5", "the value: 5 is given where an object with its members is needed"),
        (
            "null",
            "the value: null is given where an object with its members is needed",
        ),
        (r#""hex:00""#, "the value: 1 bytes are given, and it has 64"),
        (
            r#""hex:0""#,
            "the value: what follows `hex:` is no whole number of bytes in hexadecimal",
        ),
        (r#"{"port":65536}"#, "port: 65536 is out of range: 0 to 65535"),
        (r#"{"port":-1}"#, "port: -1 is out of range: 0 to 65535"),
        (r#"{"port":0.5}"#, "port: 0.5 is no whole number that is exact"),
        (r#"{"port":true}"#, "port: true is given where a number is needed"),
        (r#"{"port":"0x+1"}"#, "port: \"0x+1\" is given where a number is needed"),
        (r#"{"few":8}"#, "few: 8 is out of range: 0 to 7"),
        (
            r#"{"change":9223372036854775808}"#,
            "change: 9223372036854775808 is out of range: -9223372036854775808 to 9223372036854775807",
        ),
        (
            r#"{"prot":1}"#,
            "prot: there is no such member; did you mean `part` or `port`?",
        ),
        (r#"{"":1}"#, "the value: there is no such member"),
        (
            r#"{"action":"DORP"}"#,
            "action: the enumeration has no `DORP`; did you mean `DROP`?",
        ),
        (
            r#"{"action":[]}"#,
            "action: a list is given where a name or a number is needed",
        ),
        (
            r#"{"name":"too long a name"}"#,
            "name: the text has 15 bytes, and there is room for 8",
        ),
        (
            r#"{"name":"a\u0000b"}"#,
            "name: the text has a NUL in it; give the bytes, as `hex:…`",
        ),
        (
            r#"{"mac":"dns"}"#,
            "mac: \"dns\" is given where bytes, as `hex:…` or as a list, is needed",
        ),
        (r#"{"mac":[0,0,0,256]}"#, "mac[3]: 256 is out of range: 0 to 255"),
        (
            r#"{"list":[1,2,3]}"#,
            "list: 3 elements are given, and there is room for 2",
        ),
        (
            r#"{"word":1,"part":[2]}"#,
            "part: it shares bytes with a member before it, which says something else; give one of them",
        ),
        (
            r#"{"flag":"yes"}"#,
            "flag: \"yes\" is given where true or false is needed",
        ),
        (
            r#"{"share":"much"}"#,
            "share: \"much\" is given where a floating point number is needed",
        ),
    ] {
        let error = from_json(&types.0, all, &parse(given)).unwrap_err();
        assert_eq!(error.to_string(), message, "{given}");
    }
    let twice = Json::Object(vec![
        ("port".to_owned(), Json::from(1)),
        ("port".to_owned(), Json::from(1)),
    ]);
    let error = from_json(&types.0, all, &twice).unwrap_err().within("flows.value");
    assert_eq!(error.to_string(), "flows.value.port: it is there twice");
}

#[test]
fn numbers_in_network_order_are_as_people_say_them() {
    let mut types = Types::default();
    let half = types.integer("unsigned short", 2);
    let named = |types: &mut Types, name: &str, of: TypeIndex| {
        types.add(DataType::Alias {
            name: name.to_owned(),
            of,
        })
    };
    let big = named(&mut types, "__be16", half);
    let port = named(&mut types, "port_t", big);
    let little = named(&mut types, "__le16", half);
    // Says something else than it is.
    let other = named(&mut types, "__be32", half);
    let ports = types.array(port, 2);
    for (of, number) in [
        (big, 443),
        (port, 443),
        (half, 0xBB01),
        (little, 0xBB01),
        (other, 0xBB01),
    ] {
        let json = Json::from(number);
        assert_eq!(to_json(&types.0, of, &[0x01, 0xBB]), json);
        assert_eq!(from_json(&types.0, of, &json).unwrap(), [0x01, 0xBB]);
    }
    assert_eq!(to_text(&types.0, ports, &[0, 53, 1, 0xBB]), "[53, 443]");
    let raw = Json::parse("\"hex:01bb\"").unwrap();
    assert_eq!(from_json(&types.0, port, &raw).unwrap(), [0x01, 0xBB]);
}
