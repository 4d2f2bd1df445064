//! Helpers of single program types, found by name: ids above 65535 mean something else in each type.

use super::{Call, negative32};
use crate::error::SimulatorError;
use crate::hex_bytes::HexBytes;
use crate::rule::Rule;
use crate::windows::kernel::Kernel;

/// `EINVAL` of the C library.
const EINVAL: u32 = 22;

impl Kernel {
    pub(super) fn specific_helper(&mut self, call: &Call<'_>) -> Result<u64, SimulatorError> {
        let [_, buffer, size, ..] = call.arguments;
        let machine = &self.request.machine;
        match call.helper.name.as_str() {
            // The driver has no implementation that moves the head.
            "bpf_xdp_adjust_head" => Ok(negative32(1)),
            "bpf_sock_addr_set_redirect_context" => {
                if !self.at_connect(call) {
                    return Ok(negative32(1));
                }
                self.state.redirect_context = Some(HexBytes(self.bytes(buffer, size)));
                Ok(0)
            }
            "bpf_sock_addr_get_network_context" => {
                let length = usize::try_from(size).unwrap_or(0);
                self.put(&call.helper.name, buffer, &vec![0; length])?;
                if self.at_connect(call) {
                    return Ok(negative32(1));
                }
                // bpf_sock_addr_network_context_t: version 1, Ethernet, no tunnel, the rest unknown.
                let mut context = [0u8; 32];
                context[0] = 1;
                context[4] = 6;
                self.put(&call.helper.name, buffer, &context[..length.min(32)])?;
                Ok(0)
            }
            "bpf_sock_ops_get_flow_id" => Ok(machine.flow_id),
            "bpf_process_get_image_path" => {
                let text = machine.process_image_path.clone();
                self.put_utf16(call, &text)
            }
            "bpf_process_get_account_name" => {
                let text = machine.account_name.clone();
                self.put_utf16(call, &text)
            }
            "bpf_process_get_account_domain" => {
                let text = machine.account_domain.clone();
                self.put_utf16(call, &text)
            }
            "bpf_netevent_push_event" => Err(self.broken(
                Rule::HelperId,
                "bpf_netevent_push_event has no address: its provider publishes none",
            )),
            _ => self.sample_helper(call)?.ok_or_else(|| call.no_stand_in()),
        }
    }

    /// Whether the program is attached to a connect hook, the only ones that can redirect.
    fn at_connect(&self, call: &Call<'_>) -> bool {
        let program = &self.module.programs[call.program];
        let Some(attach_type) = program.attach_type else {
            return false;
        };
        program.program_type.sections.iter().any(|s| {
            s.attach_type.0 == attach_type && matches!(s.prefix.as_str(), "cgroup/connect4" | "cgroup/connect6")
        })
    }

    /// Copies a text that fits and returns how many bytes it has.
    fn put_utf16(&mut self, call: &Call<'_>, text: &str) -> Result<u64, SimulatorError> {
        let [_, buffer, size, ..] = call.arguments;
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        if bytes.len() as u64 > size {
            return Ok(negative32(EINVAL));
        }
        self.put(&call.helper.name, buffer, &bytes)?;
        Ok(bytes.len() as u64)
    }
}
