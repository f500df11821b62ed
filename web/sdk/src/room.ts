import type { Position, Push, Standing } from './protocol'

/** What a page wants to hear of a room. Every handler is optional. */
export interface RoomHandlers {
  /** each message once, in order */
  onMessage?(push: Push): void
  /** the server let us in: the first time, and after every reconnect. `recovered`: nothing was missed for good. */
  onJoin?(standing: { recovered: boolean; missed: number; position: Position }): void
  /** the gap is older than the history: fetch state over HTTP and go on from here */
  onReload?(reason: 'lost' | 'epoch' | 'gap'): void
  /** somebody came or went, in rooms that announce it */
  onPresence?(change: { action: 'join' | 'leave'; user: string }): void
  /** the server refused this room */
  onError?(error: Error): void
}

/** What to do with a push: hand it to the page, drop it, or fetch first what lies before it. */
export type Verdict = 'deliver' | 'repeat' | 'gap'

const remembered = 512 // ids per room: far more than a server repeats after a reconnect

/** Room keeps what one room needs over reconnects: the position, the ids seen, who listens. */
export class Room {
  listeners = new Set<RoomHandlers>()
  position: Position | undefined
  joined = false
  standing: { recovered: boolean; missed: number } = { recovered: false, missed: 0 }
  /** acknowledged by the page up to here, and told to the server up to there */
  ackWanted = 0
  ackSent = 0

  private seen = new Set<string>()
  private gapAt = ''

  constructor(
    public name: string,
    readonly mail: boolean,
  ) {}

  /** Mail belongs to a person: another one signed in, and nothing of the former holds. */
  rename(name: string): void {
    this.name = name
    this.position = undefined
    this.seen.clear()
    this.ackWanted = this.ackSent = 0
    this.gapAt = ''
  }

  /**
   * Takes what the server says about our place, given the position that we brought.
   * True: there was a position and the history no longer reaches back to it.
   */
  settle(standing: Standing, brought: Position | undefined): boolean {
    this.joined = true
    const recovered =
      brought !== undefined &&
      (standing.recovered ?? (standing.epoch === brought.epoch && standing.offset >= brought.offset))
    this.standing = { recovered, missed: recovered ? (standing.missed ?? standing.offset - brought.offset) : 0 }
    if (recovered) return false // the position moves as the missed messages arrive
    // What is not yet acknowledged follows a mail room's standing, so its place is that of the first push.
    this.startAt(this.mail ? undefined : { epoch: standing.epoch, offset: standing.offset })
    return brought !== undefined
  }

  /** Whether this push belongs to another life of the stream than our position. */
  isNewEpoch(push: Push): boolean {
    const { epoch, offset } = push.meta
    return !!offset && this.position !== undefined && this.position.epoch !== epoch
  }

  /** Judges a push and moves the position. After 'gap' nothing has moved. */
  judge(push: Push): Verdict {
    const { epoch, offset, id } = push.meta
    if (epoch !== undefined && offset) {
      const place = this.isNewEpoch(push) ? undefined : this.position
      if (place && offset <= place.offset) return 'repeat'
      if (place && offset > place.offset + 1) return 'gap'
      this.startAt({ epoch, offset })
    }
    if (id === undefined) return 'deliver'
    if (this.seen.has(id)) return 'repeat'
    this.seen.add(id)
    if (this.seen.size > remembered) this.seen.delete(this.seen.values().next().value as string)
    return 'deliver'
  }

  /** True when the same place showed the same gap before: asking again would not fill it. */
  gapAgain(): boolean {
    const here = this.position ? `${this.position.epoch}:${this.position.offset}` : ''
    const again = here === this.gapAt
    this.gapAt = here
    return again
  }

  /** Goes on from just before this push, whatever lay between. */
  jumpTo(push: Push): void {
    this.position = { epoch: push.meta.epoch as string, offset: (push.meta.offset as number) - 1 }
  }

  private startAt(position: Position | undefined): void {
    if (this.position?.epoch !== position?.epoch) this.ackWanted = this.ackSent = 0
    this.position = position
  }
}
