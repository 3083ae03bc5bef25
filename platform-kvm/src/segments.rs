//! The segment registers of guests, with Linux's selectors.

use amber_platform::Registers;
use kvm_bindings::kvm_segment;

use crate::layout::{ADDRESS_LIMIT, is_canonical, selector};

/// A flat code or data segment of type `kind` (Intel SDM, volume 3, "Code- and Data-Segment Descriptor Types").
fn segment(selector: u16, kind: u8) -> kvm_segment {
    let long = matches!(selector, selector::USER_CODE | selector::KERNEL_CODE);
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: kind,
        present: 1,
        dpl: (selector & 3) as u8,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..kvm_segment::default()
    }
}

/// A code segment.
pub(crate) fn code_segment(selector: u16) -> kvm_segment {
    segment(selector, 11)
}

/// A data segment; unusable if the selector is null.
pub(crate) fn data_segment(selector: u16, base: u64) -> kvm_segment {
    if selector & !3 == 0 {
        return kvm_segment { base, selector, unusable: 1, ..kvm_segment::default() };
    }
    kvm_segment { base, ..segment(selector, 3) }
}

/// Whether the processor accepts these registers for user code.
pub(crate) fn are_loadable(r: &Registers) -> bool {
    let data = |selector: u64| selector <= 3 || selector == u64::from(selector::USER_DATA);
    (r.cs == u64::from(selector::USER_CODE) || r.cs == u64::from(selector::USER_CODE32))
        && r.ss == u64::from(selector::USER_DATA)
        && [r.ds, r.es, r.fs, r.gs].into_iter().all(data)
        && r.fs_base < ADDRESS_LIMIT
        && r.gs_base < ADDRESS_LIMIT
        && is_canonical(r.rip)
}
