/** How long to wait between tries. Times are milliseconds. */
export interface Backoff {
    /** the first wait is at most this; it doubles with every try */
    base: number;
    /** no wait is longer */
    cap: number;
}
/**
 * The wait before try number `attempt` (from 0): full jitter, that is anything between 0 and the bound.
 * A hub that restarts gets its phones back evenly spread, not in waves.
 */
export declare function fullJitter(attempt: number, backoff: Backoff, random: () => number): number;
