//! The general helpers, ids 1 to 34, with the semantics of ebpfcore.

use super::{Call, TAIL_CALL, negative32, negative64};
use crate::address_space::AddressSpace;
use crate::error::SimulatorError;
use crate::windows::kernel::Kernel;
use crate::windows::maps::{code, kind};

/// `EINVAL` and `ERANGE` of the C library.
const EINVAL: u32 = 22;
const STATUS_BUFFER_OVERFLOW: u64 = 0x8000_0005;
const STATUS_INVALID_PARAMETER: u64 = 0xC000_000D;

impl Kernel {
    /// Runs a general helper, or the program type's own form of it.
    pub(super) fn general_helper(&mut self, call: &Call<'_>) -> Result<u64, SimulatorError> {
        let [a1, a2, a3, a4, _] = call.arguments;
        let program_type = &self.module.programs[call.program].program_type;
        let overridden = program_type.helper_overrides.contains(&call.helper.id);
        let provider = program_type.provider.as_str();
        let machine = &self.request.machine;
        match call.helper.id {
            1..=4 | 16..=18 => self.map_helper(call),
            TAIL_CALL => Ok(self.tail_call(call)),
            6 => Ok(self.random().into()),
            7 | 9 => Ok(self.clock() * 100),
            30 | 31 => Ok(self.clock() / 10_000),
            8 => Ok(machine.cpu.into()),
            10 => Ok(self.csum_diff(call)),
            11 => {
                let data = self.bytes(a2, a3);
                let result = call
                    .map
                    .map_or(Err(code::INVALID_ARGUMENT), |map| self.maps.output(map, 0, &data));
                Ok(result.map_or_else(negative32, |()| 0))
            }
            32 => Ok(self.perf_event_output(call)),
            12..=15 => Ok(self.print(call)),
            19 if overridden && provider == "sample" => Ok(super::sample::PID_TGID),
            19 => Ok(u64::from(machine.process_id) << 32 | u64::from(machine.thread_id)),
            20 => Ok(machine.logon_id),
            // ebpfcore itself does not know and answers -1.
            21 if overridden => Ok(machine.is_admin.into()),
            21 => Ok(negative32(1)),
            22 | 25 => {
                if a4 > a2 {
                    return Ok(negative32(EINVAL));
                }
                let bytes = self.bytes(a3, a4);
                self.put(&call.helper.name, a1, &bytes)?;
                Ok(0)
            }
            23 => {
                let (left, right) = (self.bytes(a1, a2), self.bytes(a3, a4));
                let common = left.len().min(right.len());
                let order = left[..common].cmp(&right[..common]).then(left.len().cmp(&right.len()));
                Ok(u64::from(order as i32 as u32))
            }
            24 => {
                self.put(&call.helper.name, a1, &vec![a3 as u8; usize::try_from(a2).unwrap_or(0)])?;
                Ok(a1)
            }
            26 if overridden => Ok(machine.socket_cookie),
            27 => self.string_copy(call),
            28 => self.string_append(call),
            29 => Ok(self.bytes(a1, a2).iter().position(|&b| b == 0).map_or(a2, |n| n as u64)),
            33 => Ok(machine.process_start_key),
            34 => Ok(machine.thread_create_time),
            _ => Err(call.no_stand_in()),
        }
    }

    fn map_helper(&mut self, call: &Call<'_>) -> Result<u64, SimulatorError> {
        let Some(map) = call.map else { return Ok(0) };
        if self.maps.list[map]
            .custom
            .as_ref()
            .is_some_and(|custom| custom.closed_to_helpers)
        {
            return Ok(match call.helper.id {
                1 | 4 => 0,
                2 | 3 => negative64(code::OPERATION_NOT_SUPPORTED),
                _ => negative32(code::OPERATION_NOT_SUPPORTED),
            });
        }
        let key_size = self.maps.list[map].key_size() as u64;
        let value_size = self.maps.list[map].value_size() as u64;
        let [_, a2, a3, a4, _] = call.arguments;
        let memory = &mut self.memory;
        let bytes = |memory: &crate::windows::memory::Memory, address: u64, length: u64| {
            memory.read(address, length as usize).unwrap_or_default()
        };
        Ok(match call.helper.id {
            1 => {
                let key = bytes(memory, a2, key_size);
                self.maps.lookup(map, &key)
            }
            2 => {
                let (key, value) = (bytes(memory, a2, key_size), bytes(memory, a3, value_size));
                // The runtime's option is an enumeration of 32 bits.
                let option = u64::from(a4 as u32);
                self.maps
                    .update(memory, map, &key, &value, option, false)
                    .map_or_else(negative64, |()| 0)
            }
            3 => {
                let key = bytes(memory, a2, key_size);
                self.maps.delete(memory, map, &key).map_or_else(negative64, |()| 0)
            }
            4 => {
                let key = bytes(memory, a2, key_size);
                self.maps.lookup_and_delete(memory, map, &key)
            }
            id => {
                // Push, pop and peek; other maps miss the key.
                match self.maps.list[map].base() {
                    kind::QUEUE | kind::STACK => {}
                    kind::RINGBUF | kind::PERF_EVENT_ARRAY => return Ok(negative32(code::OPERATION_NOT_SUPPORTED)),
                    kind::PROG_ARRAY | kind::ARRAY_OF_MAPS | kind::HASH_OF_MAPS if id == 16 => {
                        return Ok(negative32(code::OPERATION_NOT_SUPPORTED));
                    }
                    _ => return Ok(negative32(code::INVALID_ARGUMENT)),
                }
                if id == 16 {
                    let value = bytes(memory, a2, value_size);
                    return Ok(self.maps.push(memory, map, &value, a3).map_or_else(negative32, |()| 0));
                }
                let found = if id == 17 {
                    self.maps.pop(map)
                } else {
                    self.maps.queue_end(map)
                };
                let Some(address) = found else {
                    return Ok(negative32(code::OBJECT_NOT_FOUND));
                };
                let value = bytes(memory, address, value_size);
                self.put(&call.helper.name, a2, &value)?;
                0
            }
        })
    }

    fn tail_call(&mut self, call: &Call<'_>) -> u64 {
        let target = call
            .map
            .and_then(|map| self.maps.program_at(map, call.arguments[2] as u32));
        let Some(target) = target else {
            return negative64(code::INVALID_ARGUMENT);
        };
        if self.state.tail_calls_done >= self.platform.limits.max_tail_call_count {
            return negative64(code::NO_MORE_TAIL_CALLS);
        }
        self.state.pending = Some(target);
        0
    }

    /// A number of the `SplitMix64` sequence of the request's seed.
    fn random(&mut self) -> u32 {
        self.state.random = self.state.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as u32
    }

    /// Reads the clock, in units of 100 ns; it goes on by one.
    fn clock(&mut self) -> u64 {
        self.state.time = self.state.time.wrapping_add(1);
        self.state.time - 1
    }

    fn csum_diff(&self, call: &Call<'_>) -> u64 {
        let [from, from_size, to, to_size, seed] = call.arguments;
        if !from_size.is_multiple_of(4) || !to_size.is_multiple_of(4) {
            return negative32(EINVAL);
        }
        let words = |address: u64, size: u64| {
            let bytes = if address == 0 {
                Vec::new()
            } else {
                self.bytes(address, size)
            };
            bytes
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect::<Vec<_>>()
        };
        let mut sum = seed as i32;
        for word in words(to, to_size) {
            sum = sum.wrapping_add(word.into());
        }
        for word in words(from, from_size) {
            sum = sum.wrapping_add((!word).into());
        }
        if sum < 0 { negative32(EINVAL) } else { sum as u64 }
    }

    fn perf_event_output(&mut self, call: &Call<'_>) -> u64 {
        const INDEX: u64 = 0xFFFF_FFFF;
        const CONTEXT_LENGTH: u64 = 0x000F_FFFF_0000_0000;
        let [_, _, flags, address, length] = call.arguments;
        if flags & !(INDEX | CONTEXT_LENGTH) != 0 {
            return negative32(code::INVALID_ARGUMENT);
        }
        let cpu = self.request.machine.cpu;
        if flags & INDEX != INDEX && flags & INDEX != u64::from(cpu) {
            return negative32(code::INVALID_ARGUMENT);
        }
        let mut data = self.bytes(address, length);
        // The upper half asks for bytes of the packet behind the record.
        let captured = (flags & CONTEXT_LENGTH) >> 32;
        if captured > 0 {
            let (start, available) = self.state.packet;
            if captured > available {
                return negative32(code::INVALID_ARGUMENT);
            }
            data.extend(self.bytes(start, captured));
        }
        let result = call.map.map_or(Err(code::INVALID_ARGUMENT), |map| {
            self.maps.output(map, cpu as usize, &data)
        });
        result.map_or_else(negative32, |()| 0)
    }

    /// `RtlStringCbCopyNExA` with the rest filled by zeros: copies up to the source's NUL or `count`.
    fn string_copy(&mut self, call: &Call<'_>) -> Result<u64, SimulatorError> {
        let [to, size, from, count, _] = call.arguments;
        if size == 0 {
            return Ok(STATUS_INVALID_PARAMETER);
        }
        let source = self.bytes(from, count);
        let length = source.iter().position(|&b| b == 0).unwrap_or(source.len());
        let fits = length < size as usize;
        let mut text = source[..length.min(size as usize - 1)].to_vec();
        text.resize(size as usize, 0);
        self.put(&call.helper.name, to, &text)?;
        Ok(if fits { 0 } else { STATUS_BUFFER_OVERFLOW })
    }

    /// `RtlStringCbCatNExA` with the rest filled by zeros.
    fn string_append(&mut self, call: &Call<'_>) -> Result<u64, SimulatorError> {
        let [to, size, from, count, _] = call.arguments;
        let start = self.bytes(to, size);
        let Some(start) = start.iter().position(|&b| b == 0).map(|n| &start[..n]) else {
            return Ok(STATUS_INVALID_PARAMETER);
        };
        let source = self.bytes(from, count);
        let length = source.iter().position(|&b| b == 0).unwrap_or(source.len());
        let mut text = start.to_vec();
        text.extend_from_slice(&source[..length]);
        let fits = text.len() < size as usize;
        text.truncate(size as usize - 1);
        text.resize(size as usize, 0);
        self.put(&call.helper.name, to, &text)?;
        Ok(if fits { 0 } else { STATUS_BUFFER_OVERFLOW })
    }
}
