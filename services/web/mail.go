package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

const (
	channelEmailName = "email"
	// sourceMail is the source of opens and clicks.
	sourceMail = sourcePrefix + "mail"
	// linkTimeout bounds how long somebody who follows a link waits for it to be recorded.
	linkTimeout = 3 * time.Second
	// linksPerSecond of one tenant that are recorded. Nobody can make a link, but
	// whoever has one can load it again and again.
	linksPerSecond = 2000
)

// pixel is a transparent GIF of one pixel, the smallest picture that every mail client shows.
var pixel = []byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;")

// open serves the pixel of a mail. Each load is an event of its own.
func (g *Gateway) open(w http.ResponseWriter, r *http.Request) {
	link, _, ok := g.link(w, r, linkOpen)
	if !ok {
		return
	}
	opened := &eventv1.EmailOpened{
		MessageId:  cut(link.MessageID, 998),
		CampaignId: cut(link.CampaignID, 256),
		IpAddress:  g.clientIP(r),
		UserAgent:  cut(cleanHeader(r.UserAgent()), 1024),
	}
	payload := &eventv1.Payload{Kind: &eventv1.Payload_EmailOpened{EmailOpened: opened}}
	if p := g.recordLink(r, &link, payload); p != nil {
		// Mail clients that cache pictures keep no failed one, and ask again.
		g.refuse(w, *p)
		return
	}
	noTrace(w.Header())
	h := w.Header()
	h.Set("Content-Type", "image/gif")
	h.Set("Content-Length", strconv.Itoa(len(pixel)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(pixel); err != nil {
		g.log.Debug("client left before its answer", "error", err)
	}
}

// click redirects to where a link of a mail leads. That the person arrives
// counts for more than that we know of it.
func (g *Gateway) click(w http.ResponseWriter, r *http.Request) {
	link, target, ok := g.link(w, r, linkClick)
	if !ok {
		return
	}
	clicked := &eventv1.EmailClicked{
		MessageId:  cut(link.MessageID, 998),
		CampaignId: cut(link.CampaignID, 256),
		Url:        target,
		IpAddress:  g.clientIP(r),
		UserAgent:  cut(cleanHeader(r.UserAgent()), 1024),
	}
	payload := &eventv1.Payload{Kind: &eventv1.Payload_EmailClicked{EmailClicked: clicked}}
	if p := g.recordLink(r, &link, payload); p != nil {
		g.metrics.lost.Inc()
	}
	noTrace(w.Header())
	w.Header().Set("Location", target)
	w.WriteHeader(http.StatusFound)
}

// link opens the request's token; where that fails it answers, and says false.
func (g *Gateway) link(w http.ResponseWriter, r *http.Request, purpose byte) (MailLink, string, bool) {
	if g.links != nil {
		if link, target, err := g.links.open(purpose, r.PathValue("token")); err == nil {
			return link, target, true
		}
	}
	g.refuse(w, problem{status: http.StatusNotFound, code: codeInvalidLink, message: "this link was not made here"})
	return MailLink{}, "", false
}

// recordLink hands on what somebody did with a mail. HEAD requests come from
// programs that look where links lead, and say nothing of a person.
func (g *Gateway) recordLink(r *http.Request, link *MailLink, payload *eventv1.Payload) *problem {
	if r.Method == http.MethodHead {
		return nil
	}
	now := g.deps.Now()
	if wait := g.limits.take(limitKey{link.Tenant, "#mail"}, linksPerSecond, 1, now); wait > 0 {
		p := tooFast(wait)
		return &p
	}
	id := g.mapper.newID().String()
	ev := &eventv1.Event{
		Id:        id,
		Tenant:    link.Tenant,
		Source:    sourceMail,
		SourceId:  id,
		Channel:   channelEmailName,
		Direction: eventv1.Direction_DIRECTION_INBOUND,
		Payload:   payload,
	}
	ev.Identifiers = addIdentifier(nil, link.IdentifierKind, link.Identifier)
	event.SetOccurred(ev, now, now, false)
	event.Stamp(ev)
	if broken := g.mapper.validator.Check(ev); len(broken) > 0 {
		g.log.Error("a signed link makes no valid event", "tenant", link.Tenant, "fields", inWords(broken))
		return &problem{status: http.StatusNotFound, code: codeInvalidLink, message: "this link was not made here"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(linkTimeout, g.cfg.PublishTimeout))
	defer cancel()
	batch := &interactionv1.IngressBatch{Events: []*eventv1.Event{ev}}
	if err := g.deps.Publisher.Publish(ctx, link.Tenant, channelEmailName, batch); err != nil {
		if !gone(r.Context()) {
			g.log.Warn("hand on an open or click of a mail", "tenant", link.Tenant, "error", err)
		}
		p := notTaken(err)
		return &p
	}
	g.metrics.accepted.Inc()
	return nil
}

// noTrace keeps the address, and what it stands for, out of caches and referrers.
func noTrace(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Robots-Tag", "noindex")
	h.Set("X-Content-Type-Options", "nosniff")
}
