/** Counters of the driver, beside the interface's own (`ifp.counters`). */
export interface DriverCounters {
  interrupts: number; // interrupts taken
  polls: number; // polls that found the driver scheduled
  rx_copybreak: number; // small frames copied out of a large buffer
  rx_no_mbuf: number; // frames dropped because the pool was empty
  rx_bad: number; // used elements or lengths that made no sense
  rx_refill_short: number; // times the pool became empty while refilling
  tx_ring_full: number; // frames dropped because the transmit ring was full
  tx_down: number; // frames dropped because the interface or the link was down
  tx_pullup: number; // chains copied together because they had too many pieces
  tx_no_mbuf: number; // frames dropped because they could not be copied together
  tx_bad: number; // frames the interface cannot take: a train that is too large, no link header
  ctrl_commands: number; // control commands carried out
  ctrl_errors: number; // control commands that the card refused
  ctrl_busy: number; // control commands that found no free slot
  resets: number; // times the card had to be reset and set up again
}

export const driverCounters = (): DriverCounters => ({
  interrupts: 0,
  polls: 0,
  rx_copybreak: 0,
  rx_no_mbuf: 0,
  rx_bad: 0,
  rx_refill_short: 0,
  tx_ring_full: 0,
  tx_down: 0,
  tx_pullup: 0,
  tx_no_mbuf: 0,
  tx_bad: 0,
  ctrl_commands: 0,
  ctrl_errors: 0,
  ctrl_busy: 0,
  resets: 0,
});
