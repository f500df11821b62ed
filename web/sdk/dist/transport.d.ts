/** What a transport needs to open a line. */
export interface Target {
    url: string;
    /** subprotocols, the wanted one first; may be empty */
    protocols: string[];
    /** request headers; a transport whose platform cannot set them ignores them */
    header: Record<string, string>;
}
/** What a transport reports. After `close` it reports nothing more. */
export interface LineEvents {
    open(): void;
    message(text: string): void;
    /** `code` is undefined when the line ended without a close frame, as after a refused handshake. */
    close(code: number | undefined, reason: string): void;
}
/** An open or opening line. */
export interface Line {
    send(text: string): void;
    close(code: number, reason: string): void;
}
/** Opens a line. It may throw; that counts as a line that failed. */
export type Transport = (target: Target, events: LineEvents) => Line;
/** 1005 and 1006 are no codes of the peer: the platform says "nothing was received". */
export declare function peerCode(code: number | undefined): number | undefined;
