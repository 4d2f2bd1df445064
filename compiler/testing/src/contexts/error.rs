//! What can be wrong with a context that people give.

/// A context that is no context of its program type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// It is no object.
    #[error("a context is an object with fields by their names, and not {given}")]
    NotAnObject {
        /// What was given, shortened.
        given: String,
    },
    /// It has a field that the context does not have.
    #[error("the context has no field `{name}`; {}", known(near, all))]
    UnknownField {
        /// The field.
        name: String,
        /// Names that look like it.
        near: Vec<String>,
        /// All names.
        all: Vec<String>,
    },
    /// A field has a value that it cannot have.
    #[error("`{field}` is {given}, and takes {takes}")]
    Value {
        /// The field.
        field: String,
        /// What was given, shortened.
        given: String,
        /// What it takes, with an example.
        takes: String,
    },
    /// Two fields are given that share bytes.
    #[error("`{first}` and `{second}` share bytes: give one of them")]
    Overlap {
        /// One field.
        first: String,
        /// The other.
        second: String,
    },
    /// A pointer is given.
    #[error("`{field}` is a pointer, which the run sets: give `{instead}`, {takes}")]
    Pointer {
        /// The field.
        field: String,
        /// What to give instead.
        instead: String,
        /// What that takes, with an example.
        takes: String,
    },
    /// The address family is not given, and addresses of both families are.
    #[error("`{field}` must be given: `{ipv4}` and `{ipv6}` are of two families")]
    Family {
        /// The field with the family.
        field: String,
        /// A field with an IPv4 address.
        ipv4: String,
        /// A field with an IPv6 address.
        ipv6: String,
    },
}

fn known(near: &[String], all: &[String]) -> String {
    let list = |names: &[String], last: &str| {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        names.join(last)
    };
    match (near, all) {
        ([], []) => "nothing is known of its fields".to_owned(),
        ([], all) => format!("it has {}", list(all, ", ")),
        (near, _) => format!("did you mean {}?", list(near, " or ")),
    }
}
