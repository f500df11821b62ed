import { type Push, type Standing, type Welcome } from './protocol';
import type { Target, Transport } from './transport';
/** What a session reports. After `end` it reports nothing more. */
export interface SessionEvents {
    welcome(welcome: Welcome): void;
    push(push: Push): void;
    /** a room of the handshake that could not be had then is joined now, unasked */
    joined(standing: Standing): void;
    /** `shook` is false when the handshake never succeeded. */
    end(code: number | undefined, reason: string, shook: boolean): void;
    error(error: Error): void;
}
export interface SessionLimits {
    /** milliseconds from the start to the welcome */
    connectTimeout: number;
    /** milliseconds for an answer */
    requestTimeout: number;
}
export type Reply = Record<string, unknown>;
/** Session is one line from its handshake to its end: questions and answers, heartbeats, silence. */
export declare class Session {
    private readonly limits;
    private readonly events;
    /** when the welcome came; 0: not yet */
    upSince: number;
    private line;
    private shook;
    private welcomed;
    private ended;
    private heard;
    private silence;
    private nextId;
    private readonly questions;
    private watch;
    private probing;
    constructor(transport: Transport, target: Target, limits: SessionLimits, events: SessionEvents);
    /** Rejects with HubError: the server's word, "timeout" or "disconnected". */
    ask(action: string, fields?: object): Promise<Reply>;
    /** Replaces the line unless something is heard within `wait` milliseconds. */
    probe(wait: number): void;
    /** Gives the line up and reports the end. */
    drop(reason: string): void;
    /** Closes the line for good; nothing is reported. */
    close(): void;
    private receive;
    private answered;
    private pushed;
    /** One timer, however many frames: it looks when the newest one came. */
    private listen;
    private send;
    private end;
    private letGo;
}
