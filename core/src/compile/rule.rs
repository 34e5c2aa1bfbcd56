//! Rules: what a flag's `targeting` means, checked and typed, before it becomes bytes.

/// A targeting rule: data, or an operator applied to rules.
///
/// Every `$ref` is resolved, every operator known, every argument count right, depth and size within the limits.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// JSON `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A finite number; whole numbers lie within ±(2^53-1).
    Number(f64),
    /// Text.
    Text(String),
    /// An array; its elements are rules.
    List(Vec<Rule>),
    /// An object that is data: no member, or more than one. Its members are data all the way down, names unique.
    Object(Vec<(String, Rule)>),
    /// An operator and its arguments; `{"op": x}` with `x` no array is one argument.
    Call(Operator, Vec<Rule>),
}

macro_rules! operators {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $fewest:literal ..= $most:expr;)*) => {
        /// The operators of the rule language.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Operator { $($(#[doc = $doc])* $name,)* }

        impl Operator {
            /// Every operator.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in a definition.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// How few and how many arguments it takes.
            #[must_use]
            pub const fn arity(self) -> (usize, usize) {
                match self { $(Self::$name => ($fewest, $most),)* }
            }

            /// The operator called `name`.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Some(match name { $($text => Self::$name,)* _ => return None })
            }
        }
    };
}

const ANY: usize = usize::MAX;

operators! {
    /// `var`: an attribute by path.
    Var = "var", 0..=2;
    /// `missing`: which of the named attributes are absent.
    Missing = "missing", 0..=ANY;
    /// `missing_some`: the same, unless enough are present.
    MissingSome = "missing_some", 2..=2;
    /// `if`: conditions and results in turn.
    If = "if", 0..=ANY;
    /// `?:`: the same as `if`.
    Ternary = "?:", 0..=ANY;
    /// `==`: equal after JavaScript's coercion.
    Equal = "==", 2..=2;
    /// `!=`.
    NotEqual = "!=", 2..=2;
    /// `===`: equal without coercion.
    StrictEqual = "===", 2..=2;
    /// `!==`.
    StrictNotEqual = "!==", 2..=2;
    /// `!`: not.
    Not = "!", 0..=1;
    /// `!!`: truthiness.
    Truthy = "!!", 0..=1;
    /// `or`.
    Or = "or", 0..=ANY;
    /// `and`.
    And = "and", 0..=ANY;
    /// `>`; a third argument is ignored.
    Greater = ">", 2..=3;
    /// `>=`; a third argument is ignored.
    GreaterOrEqual = ">=", 2..=3;
    /// `<`; with three arguments: between.
    Less = "<", 2..=3;
    /// `<=`; with three arguments: between.
    LessOrEqual = "<=", 2..=3;
    /// `max`.
    Max = "max", 0..=ANY;
    /// `min`.
    Min = "min", 0..=ANY;
    /// `+`.
    Add = "+", 0..=ANY;
    /// `-`: difference, or with one argument the negative.
    Subtract = "-", 1..=2;
    /// `*`.
    Multiply = "*", 1..=ANY;
    /// `/`.
    Divide = "/", 2..=2;
    /// `%`.
    Remainder = "%", 2..=2;
    /// `map`.
    Map = "map", 2..=2;
    /// `filter`.
    Filter = "filter", 2..=2;
    /// `reduce`.
    Reduce = "reduce", 3..=3;
    /// `all`.
    All = "all", 2..=2;
    /// `none`.
    None = "none", 2..=2;
    /// `some`.
    Some = "some", 2..=2;
    /// `merge`: lists into one list.
    Merge = "merge", 0..=ANY;
    /// `in`: member of a list, or part of a text.
    In = "in", 2..=2;
    /// `cat`: texts into one text.
    Cat = "cat", 0..=ANY;
    /// `substr`.
    Substr = "substr", 2..=3;
    /// `log`: its argument; nothing is logged when a flag is read.
    Log = "log", 0..=1;
    /// flagd's `fractional`: deterministic rollout by weights.
    Fractional = "fractional", 0..=ANY;
    /// flagd's `sem_ver`; with another number of arguments than three it is null.
    SemVer = "sem_ver", 0..=ANY;
    /// flagd's `starts_with`; with another number of arguments than two it is null.
    StartsWith = "starts_with", 0..=ANY;
    /// flagd's `ends_with`; with another number of arguments than two it is null.
    EndsWith = "ends_with", 0..=ANY;
    /// `in_list`: `{"in": [x, {"list": "name"}]}` after the definition stage, `name` a known id list. Arguments: x, the list's name as text.
    InList = "in_list", 2..=2;
}
