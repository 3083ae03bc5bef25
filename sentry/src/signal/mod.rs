//! Signals: queues, actions, delivery, job control.
