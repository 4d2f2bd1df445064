//! The program information hash (native module contract §4.8).
//!
//! The runtime computes it over its providers' tables when a module is loaded and refuses a module that states
//! another, so names and prototypes come from the platform and never from the module.

use crate::model::{self, BtfFunction, Helper, Platform, ProgramType};
use crate::{Guid, HashAlgorithm, UnknownCallee};

impl Platform {
    /// The hash of the program type and of what a program calls, its subprograms included. `helper_ids` may come in any
    /// order and repeat; `btf_functions` count in the order in which they come, and the module's table must have the same.
    ///
    /// # Errors
    /// An id that the program type does not have, or a function that nobody offers.
    pub fn program_info_hash<'n>(
        &self,
        algorithm: HashAlgorithm,
        program_type: &ProgramType,
        helper_ids: impl IntoIterator<Item = u32>,
        btf_functions: impl IntoIterator<Item = (Guid, &'n str)>,
    ) -> Result<Vec<u8>, UnknownCallee> {
        let mut ids: Vec<u32> = helper_ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut hashed = Vec::with_capacity(512);
        hashed.extend_from_slice(program_type.name.as_bytes());
        let model::Context {
            size,
            data,
            data_end,
            data_meta,
            ..
        } = program_type.context;
        for value in [size, data, data_end, data_meta] {
            hashed.extend_from_slice(&value.to_le_bytes());
        }
        hashed.extend_from_slice(&program_type.guid.0);
        hashed.extend_from_slice(&program_type.bpf_prog_type.to_le_bytes());
        hashed.push(u8::from(program_type.is_privileged));
        hashed.extend_from_slice(&(ids.len() as u64).to_le_bytes());
        for id in ids {
            let helper = self.helper(program_type, id).ok_or_else(|| UnknownCallee::Helper {
                program_type: program_type.name.clone(),
                id,
            })?;
            add_helper(&mut hashed, helper);
        }
        let functions: Vec<&BtfFunction> = btf_functions
            .into_iter()
            .map(|(module, name)| {
                self.btf_function(module, name)
                    .ok_or_else(|| UnknownCallee::BtfFunction {
                        module,
                        name: name.to_owned(),
                    })
            })
            .collect::<Result<_, _>>()?;
        if !functions.is_empty() {
            hashed.extend_from_slice(&(functions.len() as u64).to_le_bytes());
        }
        for function in functions {
            hashed.extend_from_slice(&function.module.0);
            add_prototype(&mut hashed, &function.name, function.return_type, function.arguments);
            hashed.extend_from_slice(&function.flags.to_le_bytes());
        }
        Ok(algorithm.digest(&hashed))
    }
}

fn add_helper(hashed: &mut Vec<u8>, helper: &Helper) {
    hashed.extend_from_slice(&helper.id.to_le_bytes());
    add_prototype(hashed, &helper.name, helper.return_type, helper.arguments);
    if helper.reallocate_packet {
        hashed.push(1);
    }
}

fn add_prototype(hashed: &mut Vec<u8>, name: &str, return_type: u32, arguments: [u32; 5]) {
    hashed.extend_from_slice(name.as_bytes());
    hashed.extend_from_slice(&return_type.to_le_bytes());
    for argument in arguments {
        hashed.extend_from_slice(&argument.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, b| text + &format!("{b:02x}"))
    }

    fn digest(platform: &Platform, program_type: &str, ids: &[u32]) -> String {
        let found = platform.program_types.iter().find(|t| t.name == program_type).unwrap();
        let hash = platform.program_info_hash(HashAlgorithm::Sha256, found, ids.iter().copied(), []);
        hex(&hash.unwrap())
    }

    /// Digests computed from the recipe by an independent implementation.
    const VECTORS: [(&str, &[u32], &str); 8] = [
        (
            "bind",
            &[],
            "9fbf26553a538157c22a832da9a285137f2148a7a54bf61531782ac9793a1763",
        ),
        (
            "bind",
            &[1, 2, 3],
            "f9a03fa0076001257008a3dd06580518800c1fc60e4b40179d6d87c065732a26",
        ),
        (
            "bind",
            &[1, 2, 3, 22],
            "629936e7c82432702ff4e855b9bddc519e85cae35cf6fc34f8c255e8d847ed76",
        ),
        (
            "sock_addr",
            &[1],
            "854028e896a9b2f7451fd09ab6c1078729eda8e63dc767cac76e219c1c9dc6b0",
        ),
        (
            "sock_addr",
            &[65537, 65538],
            "f0aa67d385789d0681f394265db6fd939fdd9ddaf2bc437b71e9e73d637e1d88",
        ),
        (
            "xdp",
            &[65536],
            "dda5dac9618977936a93f9b376f4ac2b53bc7ef7a8beace2d263e04be30faa23",
        ),
        (
            "sample",
            &[1, 22],
            "716bc7e940386472ec406c536e38dcaa87de0216a9205a448811ae64968af2fd",
        ),
        (
            "sample",
            &[65536, 65537, 65538, 65539, 65540, 65541, 65542],
            "264df366b481e7f140b5fd8f618c1f763c5b86f3fa4938ca71ae3d3c30665705",
        ),
    ];

    #[test]
    fn equals_the_independent_recipe() {
        let platform = Platform::builtin();
        for (program_type, ids, expected) in VECTORS {
            assert_eq!(digest(&platform, program_type, ids), expected, "{program_type} {ids:?}");
        }
    }

    /// The module and name of the sample extension's function.
    const LOOKUP: (&str, &str) = (
        "8f6c1f83-ce4c-4b58-8b91-654a29e23b7c",
        "sample_ebpf_extension_btf_lookup",
    );

    /// Digests computed from the recipe by an independent implementation, in Python with `hashlib`: the bytes of
    /// a program without functions, `struct.pack("<Q", count)`, then for each function `uuid.UUID(module).bytes_le`, the
    /// name, and `struct.pack("<i5iI", return_type, *arguments, flags)`.
    #[test]
    fn functions_of_modules_are_hashed_behind_the_helpers() {
        use HashAlgorithm::{Sha256, Sha384, Sha512};
        let platform = Platform::builtin();
        let function: &[(&str, &str)] = &[LOOKUP];
        for (algorithm, name, ids, functions, expected) in [
            (
                Sha256,
                "sample",
                &[][..],
                function,
                "98dfc1fa1a2a771e862d8a194e6051d85b76db8f4414c59563383509b742da04",
            ),
            (
                Sha256,
                "sample",
                &[1, 22],
                function,
                "8bb1e9b921e1afcaef15770aa522f3479d03ae2f232540d5e4dcbca3da0d1ab0",
            ),
            (
                Sha256,
                "bind",
                &[5],
                function,
                "adb4f12405757473f703cbd9e82cc41d57723b7cd956cecbc4e59ed79a2b8556",
            ),
            (
                Sha384,
                "bind",
                &[],
                &[],
                "3428a9265f676133b62086470041458761fe59730424986901f57ef0d96cf815ce67519dd87879f8ab2f5a7d48cc487a",
            ),
            (
                Sha384,
                "sample",
                &[1, 22],
                function,
                "d34e42b986df1ccd1786b80299e48ad7b5eedfa7da594c6e61f4535c58fd09b2a5058fc7deb1bf21ddf6ebbbb54197df",
            ),
            (
                Sha512,
                "bind",
                &[],
                &[],
                "5d97ef521167e18dc64fdee739a85d57f60357deafa09a30eaf12d50025962c7\
                 838a32b314358c90572a664b732647c82342ad4ba323ccf2e4d70573d4615bad",
            ),
            (
                Sha512,
                "sample",
                &[1, 22],
                function,
                "46886b7c572cc1ca72cb0f8693bdddf59b1de30e4624bfcd71bb9c776e318cec\
                 c698fe87fef86bf3a40917f59daed421a7c2b3903c94d0bffd3eb9c60d43f298",
            ),
        ] {
            let program_type = platform.program_types.iter().find(|t| t.name == name).unwrap();
            let functions = functions.iter().map(|(module, name)| (module.parse().unwrap(), *name));
            let hash = platform.program_info_hash(algorithm, program_type, ids.iter().copied(), functions);
            assert_eq!(hex(&hash.unwrap()), expected, "{algorithm} {name} {ids:?}");
        }
    }

    /// Three functions of two modules, of which one has flags: in the order of the platform, which is that of the hash. The
    /// digest comes from the same independent implementation, which sorts by the GUID's bytes in memory.
    #[test]
    fn functions_are_hashed_in_the_order_of_their_modules_bytes() {
        let text = "schema = 1\nprovider = { id = \"mine\" }\n\
             btf_resolved_function = [\n\
             { module_guid = \"00000001-0000-0000-0000-000000000000\", name = \"b\", \
             return_type = \"EBPF_RETURN_TYPE_INTEGER\", args = [] },\n\
             { module_guid = \"00000001-0000-0000-0000-000000000000\", name = \"B\", \
             return_type = \"EBPF_RETURN_TYPE_PTR_TO_MAP_VALUE_OR_NULL\", \
             args = [\"EBPF_ARGUMENT_TYPE_PTR_TO_MAP\", \"EBPF_ARGUMENT_TYPE_PTR_TO_MAP_KEY\"], flags = 7 },\n\
             { module_guid = \"00000100-0000-0000-0000-000000000000\", name = \"a\", \
             return_type = \"EBPF_RETURN_TYPE_INTEGER\", args = [\"EBPF_ARGUMENT_TYPE_ANYTHING\"] },\n]\n";
        let files: Vec<(&str, &str)> = Platform::builtin_files()
            .iter()
            .copied()
            .chain([("mine.toml", text)])
            .collect();
        let platform = Platform::from_toml(&files).unwrap();
        let bind = platform.program_types.iter().find(|t| t.name == "bind").unwrap();
        let mine = || platform.btf_functions.iter().filter(|f| f.provider == "mine");
        let hash = |functions: Vec<&BtfFunction>| {
            let named = functions.into_iter().map(|f| (f.module, f.name.as_str()));
            hex(&platform
                .program_info_hash(HashAlgorithm::Sha256, bind, [], named)
                .unwrap())
        };
        let expected = "993b719ee7850cce0e8f156abbb358c63058dcaed0f91376594d431299d0ba18";
        assert_eq!(hash(mine().collect()), expected);
        assert_ne!(
            hash(mine().rev().collect()),
            expected,
            "the runtime hashes in the order of the module's table"
        );
    }

    #[test]
    fn a_function_that_nobody_offers_has_no_hash() {
        let platform = Platform::builtin();
        let sample = platform.program_types.iter().find(|t| t.name == "sample").unwrap();
        let module: Guid = LOOKUP.0.parse().unwrap();
        let error = platform
            .program_info_hash(HashAlgorithm::Sha256, sample, [], [(module, "nothing")])
            .unwrap_err();
        let name = "nothing".to_owned();
        assert_eq!(error, UnknownCallee::BtfFunction { module, name });
    }

    #[test]
    fn order_and_repetition_of_ids_do_not_matter() {
        let platform = Platform::builtin();
        assert_eq!(
            digest(&platform, "bind", &[3, 1, 2, 1]),
            digest(&platform, "bind", &[1, 2, 3])
        );
    }

    #[test]
    fn a_reallocating_helper_adds_its_flag() {
        let tests = Platform::builtin().with_variant("ebpf-for-windows-tests").unwrap();
        let expected = "cb58a1baee53830d8b83ce1bc15cbcd1a1e9501fe59cb0f233ffee63643d8dee";
        assert_eq!(digest(&tests, "xdp", &[65536]), expected);
    }

    #[test]
    fn an_id_of_another_program_type_is_an_error() {
        let platform = Platform::builtin();
        let bind = platform.program_types.iter().find(|t| t.name == "bind").unwrap();
        let error = platform
            .program_info_hash(HashAlgorithm::Sha256, bind, [1, 65536], [])
            .unwrap_err();
        assert_eq!(error.to_string(), "program type `bind` has no helper with id 65536");
    }
}
