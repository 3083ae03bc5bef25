//! The Linux release that the guest sees.

use amber_abi::release::Release;

/// Everything that depends on the release of Linux uses this profile, never the host's release.
#[derive(Clone, Debug)]
pub struct KernelProfile {
    release: Release,
    text: String,
}

impl KernelProfile {
    /// The default release, a long-term one.
    pub const DEFAULT_RELEASE: &'static str = "6.12.57-amber";

    /// The profile of a release in the format of `uname -r`, such as `6.12.57` or `2.6.32-754.el6.x86_64`. None if it
    /// does not start with a version.
    pub fn new(release: &str) -> Option<Self> {
        Some(KernelProfile { release: release.parse().ok()?, text: release.to_owned() })
    }

    /// The version, for comparisons.
    pub fn release(&self) -> Release {
        self.release
    }

    /// The release as `uname -r` prints it.
    pub fn release_text(&self) -> &str {
        &self.text
    }

    /// The version as `uname -v` prints it.
    pub fn version_text(&self) -> &'static str {
        "#1 SMP PREEMPT_DYNAMIC Amber"
    }
}

impl Default for KernelProfile {
    #[expect(clippy::expect_used, reason = "a constant, which a test parses")]
    fn default() -> Self {
        Self::new(Self::DEFAULT_RELEASE).expect("the default release is well formed")
    }
}
