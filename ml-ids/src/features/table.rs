//! The table of the 78 features.

/// One feature: its names, its unit and what it means.
pub struct Feature {
    /// Position in `MachineLearningCVE`, 1 to 78.
    pub number: usize,
    /// `MachineLearningCVE` header without leading blanks; the repeated one is `Fwd Header Length.1`.
    pub name: &'static str,
    /// CICFlowMeter 4 and the fork today ("Java today"); `None` where the column does not exist.
    pub cicflowmeter4: Option<&'static str>,
    /// CICFlowMeter of 2018 (CSE-CIC-IDS2018).
    pub cicflowmeter2018: Option<&'static str>,
    /// Python `cicflowmeter` key.
    pub python: Option<&'static str>,
    /// Unit: `us`, `bytes`, `packets`, `bytes/s`, `packets/s`, `bytes^2`, `ratio` or `-`.
    pub unit: &'static str,
    /// What it is, in one sentence.
    pub description: &'static str,
}

/// All features in order.
pub static FEATURES: [Feature; 0] = [];
