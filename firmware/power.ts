/**
 * Power state machine: D0 to D3hot through the register pm_state, D3cold by taking the supply away. PCI Bus Power
 * Management 1.2 §5.4 (transitions) and §3.2.4 (PMCSR); wake by magic packet or link change sets PME_Status.
 *
 * D1, D2: the card keeps its context, but neither touches memory nor interrupts. D3hot: registers can still be read, and
 * going back to D0 resets the card (No_Soft_Reset = 0). D3cold: no supply, the bus reads all ones.
 */

export type PowerState = 'D0' | 'D1' | 'D2' | 'D3hot' | 'D3cold';
export const POWER_STATES: readonly PowerState[] = ['D0', 'D1', 'D2', 'D3hot', 'D3cold'];

/** What a transition asks of the firmware. */
export type PowerAction = 'none' | 'suspend' | 'resume' | 'reset' | 'off' | 'boot';

/**
 * PCI PM 1.2 §5.4 in words: a function may go to any deeper D state, and from any back to D0, but not from a deeper to
 * a shallower low-power state; D3cold is left by supply alone, through a boot. Undefined = not allowed.
 */
export function powerTransition(from: PowerState, to: PowerState): PowerAction | undefined {
  if (from === to) return 'none';
  if (from === 'D3cold') return to === 'D0' ? 'boot' : undefined;
  if (to === 'D3cold') return 'off';
  if (to === 'D0') return from === 'D3hot' ? 'reset' : 'resume';
  return POWER_STATES.indexOf(to) > POWER_STATES.indexOf(from) ? 'suspend' : undefined;
}

/**
 * True when the frame [off, off+len) holds a magic packet for `mac`: six bytes of 0xff, then the address sixteen times,
 * anywhere in the frame (AMD publication 20213, Magic Packet Technology).
 */
export function isMagicPacket(u8: Uint8Array, off: number, len: number, mac: ArrayLike<number>): boolean {
  const end = off + len - 102;
  for (let at = off; at <= end; at++) {
    let i = 0;
    while (i < 6 && u8[at + i] === 0xff) i++;
    if (i < 6) continue;
    while (i < 102 && u8[at + i] === mac[i % 6]) i++;
    if (i === 102) return true;
  }
  return false;
}
