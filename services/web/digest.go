package web

import "github.com/parleyhq/parley/pkg/event"

// digest sets the content digest: SHA-256 over the kind of the call and its
// members in alphabetical order, values without the space between tokens.
//
// Left out is what a client may say differently when it sends the same event
// again:
//   - how and when it was sent: sentAt, receivedAt, originalTimestamp,
//     writeKey, _metadata (the browser library counts retries in it),
//     integrations (where Segment would send it on to), the batch's own members;
//   - messageId and type, which the event's id and the kind stand for;
//   - members that are null or absent, which is the same;
//   - userId where there is an anonymousId, except of identify, alias and group: the
//     browser library adds the user id of the moment of sending to an event that
//     has none, so that a retry after a login has one more.
//
// timestamp is in it as it was said: what is made of it by correcting the
// clock depends on when it arrived.
func (rd *reader) digest(m *message) {
	buf := rd.scratch[:0]
	buf = append(buf, m.kind.String()...)
	for i, f := range rd.members {
		var depth int
		if i > 0 && f.name == rd.members[i-1].name {
			continue
		}
		mark := len(buf)
		buf = append(buf, '\n')
		buf = append(buf, f.name...)
		buf = append(buf, ':')
		buf, depth = appendCompact(buf, f.value)
		if depth > MaxDepth {
			m.violate(shownName(f.name), ruleDepth, "nests %d deep, at most %d", depth, MaxDepth)
		}
		if isNull(f.value) || m.unsaid(f.name) {
			buf = buf[:mark]
		}
	}
	m.digest = event.ContentDigest(buf)
	rd.scratch = buf
}

// unsaid says that a member is no part of what the client says of the event.
func (m *message) unsaid(name string) bool {
	switch name {
	case "sentAt", "receivedAt", "originalTimestamp", "writeKey", "_metadata", "integrations", "messageId", "type":
		return true
	case "userId":
		return m.anonymousID != "" && (m.kind == kindTrack || m.kind == kindPage || m.kind == kindScreen)
	default:
		return false
	}
}
