import type { Position, Push, Standing } from './protocol';
/** What a page wants to hear of a room. Every handler is optional. */
export interface RoomHandlers {
    /** each message once, in order */
    onMessage?(push: Push): void;
    /** the server let us in: the first time, and after every reconnect. `recovered`: nothing was missed for good. */
    onJoin?(standing: {
        recovered: boolean;
        missed: number;
        position: Position;
    }): void;
    /** the gap is older than the history: fetch state over HTTP and go on from here */
    onReload?(reason: 'lost' | 'epoch' | 'gap'): void;
    /** somebody came or went, in rooms that announce it */
    onPresence?(change: {
        action: 'join' | 'leave';
        user: string;
    }): void;
    /** the server refused this room */
    onError?(error: Error): void;
}
/** What to do with a push: hand it to the page, drop it, or fetch first what lies before it. */
export type Verdict = 'deliver' | 'repeat' | 'gap';
/** Room keeps what one room needs over reconnects: the position, the ids seen, who listens. */
export declare class Room {
    name: string;
    readonly mail: boolean;
    listeners: Set<RoomHandlers>;
    position: Position | undefined;
    joined: boolean;
    standing: {
        recovered: boolean;
        missed: number;
    };
    /** acknowledged by the page up to here, and told to the server up to there */
    ackWanted: number;
    ackSent: number;
    private seen;
    private gapAt;
    constructor(name: string, mail: boolean);
    /** Mail belongs to a person: another one signed in, and nothing of the former holds. */
    rename(name: string): void;
    /**
     * Takes what the server says about our place, given the position that we brought.
     * True: there was a position and the history no longer reaches back to it.
     */
    settle(standing: Standing, brought: Position | undefined): boolean;
    /** Whether this push belongs to another life of the stream than our position. */
    isNewEpoch(push: Push): boolean;
    /** Judges a push and moves the position. After 'gap' nothing has moved. */
    judge(push: Push): Verdict;
    /** True when the same place showed the same gap before: asking again would not fill it. */
    gapAgain(): boolean;
    /** Goes on from just before this push, whatever lay between. */
    jumpTo(push: Push): void;
    private startAt;
}
