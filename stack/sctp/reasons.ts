/** Reasons that go into errors, events and reports: a sentence for people and the section it follows. */

import type { Reason } from './api.js';

export const reason = (text: string, section: string): Reason => ({
  text,
  section: section === '' || section.startsWith('RFC') ? section : `RFC 9260 ${section}`,
});

export const NO_REASON: Reason = { text: '', section: '' };

/** "text (section)" for error messages. */
export function reasonText(r: Reason): string {
  return r.section === '' ? r.text : `${r.text} (${r.section})`;
}
