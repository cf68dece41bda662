//! Which law governs a lane's pace.

/// The laws that can be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LawName {
    /// Finds the limit and stays at it.
    #[default]
    Learnt,
    /// Additive increase, multiplicative decrease: the simple law, and the yardstick.
    Aimd,
    /// A pace that the operator sets.
    Fixed,
}
