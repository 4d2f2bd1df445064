//! What is shown can be given again.

use bpf2sys_platform::Context;
use serde_json::Value;

use super::{decode, encode, own, platform};

/// Numbers without pattern (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A byte; which often is 0 or another small number, as in contexts that occur.
    fn byte(&mut self) -> u8 {
        match self.next() % 4 {
            0 => 0,
            1 => (self.next() % 8) as u8,
            _ => self.next() as u8,
        }
    }
}

/// Bytes without pattern in all fields but pointers.
fn random(context: &Context, numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = vec![0; context.size as usize];
    let zeros = numbers.next().is_multiple_of(3);
    for field in &context.fields {
        if zeros && numbers.next().is_multiple_of(2) {
            continue;
        }
        bytes[field.offset as usize..][..field.size as usize].fill_with(|| numbers.byte());
        // A value that has a name, now and then.
        let named = numbers.next() as usize % (2 * field.values.len() + 1);
        if let Some(value) = field.values.get(named) {
            let value = value.value.to_le_bytes();
            bytes[field.offset as usize..][..field.size as usize].copy_from_slice(&value[..field.size as usize]);
        }
    }
    for pointer in [context.data, context.data_end, context.data_meta] {
        if let Ok(at) = usize::try_from(pointer) {
            bytes[at..at + 8].fill(0);
        }
    }
    bytes
}

fn check(context: &Context, bytes: Vec<u8>, data: Option<Vec<u8>>) {
    let shown = decode(context, &bytes, data.as_deref());
    let text = serde_json::to_string(&shown).unwrap();
    let again: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(again, Value::from(shown));
    let given = encode(context, &again).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!((given.context, given.data), (bytes, data), "{text}");
}

fn check_often(context: &Context) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2000 {
        let bytes = random(context, &mut numbers);
        let length = numbers.next() % 9;
        let data: Vec<u8> = (0..length).map(|_| numbers.byte()).collect();
        let data = (context.data >= 0 && length < 8).then_some(data);
        check(context, bytes, data);
    }
    check(context, vec![0; context.size as usize], None);
}

#[test]
fn contexts_of_all_program_types() {
    for program_type in &platform().program_types {
        check_often(&program_type.context);
    }
}

#[test]
fn contexts_of_other_providers() {
    let fields = r#"
        { name = "a", type = "int32_t", offset = 16, size = 4, values = { LOW = -1, HIGH = 1, high = 2 } },
        { name = "b", type = "uint64_t", offset = 16, size = 8, byte_order = "network" },
        { name = "mode", type = "mode_t:8", offset = 24, size = 1, kind = "enum", values = { A_1 = 1, A_2 = 2, A_ = 3 } },
        { name = "c", type = "uint8_t[3]", offset = 25, size = 3 },
        { name = "protocol", type = "uint16_t", offset = 28, size = 2, byte_order = "network", format = "ip_protocol" },
        { name = "port", type = "uint16_t", offset = 30, size = 2, format = "port" },
        { name = "time", type = "uint64_t", offset = 32, size = 8, byte_order = "network", format = "filetime" },
        { name = "sid", type = "uint8_t[12]", offset = 40, size = 12, format = "sid" },
        { name = "sid_size", type = "uint8_t", offset = 52, size = 1 },
        { name = "address", type = "uint8_t[4]", offset = 53, size = 4, format = "ipv4" },
        { name = "long", type = "long_t", offset = 57, size = 9 },
        { name = "long", type = "uint8_t", offset = 58, size = 1 },
        { name = "five", type = "int64_t", offset = 66, size = 5 },
        { name = "socket", type = "uint8_t[16]", offset = 71, size = 16, format = "socket_address" },
        { name = "whole", type = "uint64_t", offset = 87, size = 8 },
        { name = "start", type = "uint16_t", offset = 87, size = 2 },
        { name = "middle", type = "uint16_t", offset = 91, size = 2, format = "port" },
    "#;
    check_often(&own(95, fields).context);
}
