//! Which Linux the guest sees.

use amber_abi::release::Release;

/// Everything that depends on the release of Linux asks this profile. The host's release never shows through.
#[derive(Clone, Debug)]
pub struct KernelProfile {
    release: Release,
    text: String,
}

impl KernelProfile {
    /// The release used unless another is asked for: a long-term one.
    pub const DEFAULT_RELEASE: &'static str = "6.12.57-amber";

    /// The profile of a release as `uname -r` prints it, such as `6.12.57` or `2.6.32-754.el6.x86_64`.
    /// None if it does not start with a version.
    pub fn new(release: &str) -> Option<Self> {
        Some(KernelProfile { release: release.parse().ok()?, text: release.to_owned() })
    }

    /// The version, for comparison.
    pub fn release(&self) -> Release {
        self.release
    }

    /// What `uname -r` prints.
    pub fn release_text(&self) -> &str {
        &self.text
    }

    /// What `uname -v` prints.
    pub fn version_text(&self) -> &'static str {
        "#1 SMP PREEMPT_DYNAMIC Amber"
    }
}

impl Default for KernelProfile {
    fn default() -> Self {
        Self::new(Self::DEFAULT_RELEASE).expect("the default release is well formed")
    }
}
