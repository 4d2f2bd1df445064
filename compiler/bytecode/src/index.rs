//! Indices into the tables of a [`Module`](crate::Module), one type per table so that they cannot be confused.

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The index as a slice index.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index! {
    /// A position in [`Function::instructions`](crate::Function): counts instructions, so `lddw` counts once.
    InsnIndex
}
index! {
    /// A position in [`Module::functions`](crate::Module).
    FunctionIndex
}
index! {
    /// A position in [`Module::maps`](crate::Module): the module's map table order.
    MapIndex
}
index! {
    /// A position in [`Module::btf_functions`](crate::Module).
    BtfFunctionIndex
}
index! {
    /// A position in [`Module::globals`](crate::Module): the order of the global variable sections.
    GlobalIndex
}
index! {
    /// A position in [`Module::lines`](crate::Module).
    LineIndex
}
