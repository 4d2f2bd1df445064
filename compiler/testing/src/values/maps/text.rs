//! Maps as lines.

use bpf2sys_simulator::MapContents;

use super::entry::Entries;
use super::show::variables;
use crate::values::ModuleTypes;

/// What is in a map, a line for each entry, variable or record: `53: 1`, `limit = 7`, `+ { pid = 4242 }`.
pub fn lines(map: &MapContents, types: Option<&ModuleTypes>) -> Vec<String> {
    let known = Entries::new(types, &map.name, map.map_type);
    let variables = variables(map, known);
    if !variables.is_empty() {
        return variables
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
    }
    let entries = map.entries.iter().map(|entry| {
        let value = known.value(entry).0;
        if entry.key.0.is_empty() {
            value.to_string()
        } else {
            format!("{}: {value}", known.key(&entry.key.0).0)
        }
    });
    let omitted = (map.omitted > 0).then(|| format!("and {} more that are not 0", map.omitted));
    let records = map.records.iter().map(|record| {
        let data = known.record(&record.data.0);
        match record.cpu {
            Some(cpu) => format!("+ {data} (processor {cpu})"),
            None => format!("+ {data}"),
        }
    });
    entries.chain(omitted).chain(records).collect()
}
