//! Helpers of the sample extension, which eBPF for Windows has its tests use.

use super::{Call, negative64};
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::windows::kernel::Kernel;

/// What its `bpf_get_current_pid_tgid` gives.
pub const PID_TGID: u64 = 9999;

/// Offsets in `sample_program_context_t` of what the helpers with an implicit context read.
const HELPER_DATA_1: u64 = 24;
const HELPER_DATA_2: u64 = 28;

impl Kernel {
    /// Runs a helper of the sample extension; `None` if it has none of that name.
    pub(super) fn sample_helper(&mut self, call: &Call<'_>) -> Result<Option<u64>, SimulatorError> {
        let [a1, a2, a3, a4, a5] = call.arguments;
        let context = |offset| {
            let field = self.bytes(self.state.context + offset, 4);
            field.try_into().map_or(0, u32::from_le_bytes)
        };
        Ok(Some(match call.helper.name.as_str() {
            "sample_ebpf_extension_helper_function1" => 0,
            "sample_ebpf_extension_find" => find(&self.bytes(a1, a2), &self.bytes(a3, a4)),
            "sample_ebpf_extension_replace" => {
                let (size, position) = (a2 as u32, a3);
                let text = self.bytes(a4, a5);
                if position >= u64::from(size) {
                    return Ok(Some(negative64(1)));
                }
                // Up to the NUL, and never over the last byte.
                let room = (u64::from(size) - 1 - position) as usize;
                let length = text.iter().position(|&b| b == 0).unwrap_or(text.len());
                self.put(&call.helper.name, a1 + position, &text[..length.min(room)])?;
                0
            }
            "sample_ebpf_extension_helper_implicit_1" => context(HELPER_DATA_1).into(),
            // It reads an argument that its prototype does not have.
            "sample_ebpf_extension_helper_implicit_2" => u64::from(context(HELPER_DATA_2)) + u64::from(a1 as u32),
            "sample_ext_helper_map_lookup_element" => self.sample_lookup_element(call, a2),
            "sample_ext_helper_map_get_value" => {
                let value = self.sample_lookup_element(call, a2);
                let size = call.map.map_or(0, |map| self.maps.list[map].value_size() as u64);
                if value == 0 || a4 < size {
                    return Ok(Some(negative64(1)));
                }
                let value = self.bytes(value, size);
                self.put(&call.helper.name, a3, &value)?;
                0
            }
            _ => return Ok(None),
        }))
    }

    /// Address of a value in a map of the extension; 0 if there is none, or if the map is not of the extension.
    fn sample_lookup_element(&mut self, call: &Call<'_>, key: u64) -> u64 {
        let Some(map) = call.map.filter(|&map| self.maps.list[map].custom.is_some()) else {
            return 0;
        };
        let key = self
            .memory
            .read(key, self.maps.list[map].key_size())
            .unwrap_or_default();
        self.maps.lookup(map, &key)
    }
}

/// Where the text in `text` starts in the text in `buffer`. Where the extension would read on past what it is given, or
/// finds nothing and computes with NULL, -1.
fn find(buffer: &[u8], text: &[u8]) -> u64 {
    let until_nul = |bytes: &[u8]| bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let (buffer, text) = (&buffer[..until_nul(buffer)], &text[..until_nul(text)]);
    if text.is_empty() {
        return 0;
    }
    let found = buffer.windows(text.len()).position(|part| part == text);
    found.map_or(negative64(1), |place| place as u64)
}
