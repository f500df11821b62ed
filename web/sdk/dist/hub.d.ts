import { type HubEvents, type HubOptions, type Membership, type State } from './options';
import { type History, type HistoryQuery, type Position, type Presence } from './protocol';
import { type RoomHandlers } from './room';
/**
 * WxHub is one socket for all rooms, kept alive.
 *
 *     const hub = new WxHub({ url, getToken, transport: wxTransport(wx) })
 *     hub.join('notice', { onMessage, onReload })
 *     hub.connect()
 *     wx.onAppShow(() => hub.wake())
 *
 * disconnected → connecting → connected; a lost line goes back to connecting and tries again with full
 * jitter, or when the server said. Only close() and close codes from 4500 lead to disconnected.
 * After a reconnect each room goes on where it stood, in the same round trip; messages arrive in order and
 * once, and a gap that the history cannot fill is told by onReload.
 */
export declare class WxHub {
    state: State;
    /** this connection's id and person, once welcomed */
    client: string;
    user: string;
    private readonly options;
    private readonly rooms;
    private mailRoom;
    private readonly handlers;
    private session;
    private round;
    private brought;
    private freshToken;
    private attempts;
    private failed;
    private queryHelped;
    private hintUntil;
    private retryTimer;
    private ackTimer;
    private knockTimers;
    constructor(options: HubOptions);
    /** Listens; the returned function ends it. */
    on<E extends keyof HubEvents>(event: E, handler: (event: HubEvents[E]) => void): () => void;
    /** Starts. While connecting or connected it does nothing. */
    connect(): void;
    /** Ends the line and stays disconnected until connect(). Rooms and positions are kept. */
    close(): void;
    /**
     * The app is back on the screen, or the network is. A pending retry happens now (not before the server's
     * own hint); an open line must answer within three seconds, since it may have died while we slept.
     */
    wake(): void;
    /** The app goes to the background, where the network freezes after seconds: what waits is said now. */
    hide(): void;
    /** Joins a room, at once or with the next line. `since` is a position kept from an earlier run. */
    join(name: string, handlers?: RoomHandlers, options?: {
        since?: Position;
    }): Membership;
    /**
     * Hears this person's own mail, which needs no join; call it before connect(). Mail is acknowledged by
     * itself as it is handed over, and what was not acknowledged comes again.
     */
    mail(handlers: RoomHandlers): Membership;
    publish(room: string, action: string, payload: unknown): Promise<Position>;
    presence(room: string): Promise<Presence>;
    history(room: string, query?: HistoryQuery): Promise<History>;
    /** See Membership.ack. */
    ack(name: string, offset: number): void;
    /** Gives the open line a new token, so that it outlives the old one. Without `token`, getToken is asked. */
    refresh(token?: string): Promise<void>;
    /** Asks once the line is there; rejects with HubError: the server's word, "timeout" or "disconnected". */
    private request;
    private untilConnected;
    private find;
    private allRooms;
    private enter;
    private quit;
    /** Asks to be let in on the open line. */
    private knock;
    /** The hub cannot look the room up just now: the line stays, and asks again. */
    private knockLater;
    private admit;
    private pushed;
    /** Reports whether the page got it. */
    private deliver;
    private flushAcks;
    private dial;
    private target;
    private welcomed;
    private lost;
    private retryIn;
    private letGo;
    private become;
    private tell;
    private each;
    /** A page's handler that throws must not stop the others, nor the socket. */
    private guard;
}
