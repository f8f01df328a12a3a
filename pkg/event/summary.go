package event

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parleyhq/parley/pkg/money"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	typev1 "github.com/parleyhq/parley/proto/gen/parley/type/v1"
)

const (
	// maxQuoted bounds what a summary takes from one text, maxPart from
	// anything else, in characters.
	maxQuoted = 60
	maxPart   = 100
	ellipsis  = "…"
)

// Summary is what happened in a few words, for timelines and lists, for
// example `viewed /pricing` or `ordered 4711 for 39.90 EUR`. It is one line
// without control characters. Without the personal part it says less.
func Summary(ev *eventv1.Event) string {
	s := summarize(ev.GetPayload())
	if s == "" {
		s = line(strings.ReplaceAll(strings.TrimPrefix(ev.GetType(), typePrefix), ".", " "), maxPart)
	}
	return s
}

func summarize(p *eventv1.Payload) string {
	for _, area := range [...]func(*eventv1.Payload) string{
		summarizeWeb, summarizeEmail, summarizePhone, summarizeChat,
		summarizeCommerce, summarizeMarketing, summarizeIdentity, summarizeOperations,
	} {
		if s := area(p); s != "" {
			return s
		}
	}
	return ""
}

func summarizeWeb(p *eventv1.Payload) string {
	switch k := p.GetKind().(type) {
	case *eventv1.Payload_PageViewed:
		return words("viewed", first(k.PageViewed.GetPath(), k.PageViewed.GetName(), k.PageViewed.GetTitle(), "a page"))
	case *eventv1.Payload_ScreenViewed:
		return words("viewed screen", k.ScreenViewed.GetName())
	case *eventv1.Payload_Tracked:
		return words(first(k.Tracked.GetName(), "did something"))
	case *eventv1.Payload_FormSubmitted:
		return words("sent form", first(k.FormSubmitted.GetFormName(), k.FormSubmitted.GetFormId()))
	case *eventv1.Payload_ContactReasonCoded:
		return words("came because of", first(k.ContactReasonCoded.GetReason(), "an unknown reason"))
	case *eventv1.Payload_ActivityLogged:
		return words(first(k.ActivityLogged.GetActivity(), "activity"), quote(k.ActivityLogged.GetSubject()))
	default:
		return ""
	}
}

func summarizeEmail(p *eventv1.Payload) string {
	switch k := p.GetKind().(type) {
	case *eventv1.Payload_EmailReceived:
		return words("mail came in", quote(k.EmailReceived.GetSubject()))
	case *eventv1.Payload_EmailSent:
		return words("mail went out", quote(k.EmailSent.GetSubject()))
	case *eventv1.Payload_EmailDelivered:
		return "mail delivered"
	case *eventv1.Payload_EmailBounced:
		return words("mail bounced", k.EmailBounced.GetStatus())
	case *eventv1.Payload_EmailOpened:
		return "opened a mail"
	case *eventv1.Payload_EmailClicked:
		return words("followed a link in a mail", k.EmailClicked.GetUrl())
	case *eventv1.Payload_EmailComplained:
		return "reported a mail as spam"
	default:
		return ""
	}
}

func summarizePhone(p *eventv1.Payload) string {
	switch k := p.GetKind().(type) {
	case *eventv1.Payload_CallRinging:
		return words("call rings", with("from", k.CallRinging.GetFrom()), with("on", k.CallRinging.GetLine()))
	case *eventv1.Payload_CallQueued:
		return words("call queued", with("in", k.CallQueued.GetQueue()))
	case *eventv1.Payload_CallAnswered:
		return words("call answered", with("by", k.CallAnswered.GetAgentId()), with("after", span(k.CallAnswered.GetWaited())))
	case *eventv1.Payload_CallHeld:
		return "call on hold"
	case *eventv1.Payload_CallResumed:
		return words("call resumed", with("after", span(k.CallResumed.GetHeld())))
	case *eventv1.Payload_CallTransferred:
		t := k.CallTransferred
		return words("call transferred", with("to", first(t.GetToAgentId(), t.GetToQueue(), t.GetToNumber())))
	case *eventv1.Payload_CallEnded:
		return words("call", callOutcome(k.CallEnded.GetOutcome()), with("after", span(k.CallEnded.GetDuration())))
	case *eventv1.Payload_VoicemailLeft:
		return words("left a voicemail", with("of", span(k.VoicemailLeft.GetDuration())))
	case *eventv1.Payload_CallRecorded:
		return words("call recorded", with("of", span(k.CallRecorded.GetDuration())))
	default:
		return ""
	}
}

func summarizeChat(p *eventv1.Payload) string {
	switch k := p.GetKind().(type) {
	case *eventv1.Payload_ChatStarted:
		return words("chat started", with("about", k.ChatStarted.GetTopic()))
	case *eventv1.Payload_ChatMessagePosted:
		return words("wrote", first(quote(k.ChatMessagePosted.GetText()), "a message"))
	case *eventv1.Payload_ChatEnded:
		return words("chat ended", with("after", span(k.ChatEnded.GetDuration())))
	case *eventv1.Payload_MessageRequested:
		return words("message to go out", quote(first(k.MessageRequested.GetSubject(), k.MessageRequested.GetText())))
	case *eventv1.Payload_MessageSent:
		return words("message sent", with("by", k.MessageSent.GetProvider()))
	case *eventv1.Payload_MessageDelivered:
		return "message delivered"
	case *eventv1.Payload_MessageRead:
		return "message read"
	case *eventv1.Payload_MessageFailed:
		return words("message failed", first(k.MessageFailed.GetErrorCode(), k.MessageFailed.GetErrorText()))
	default:
		return ""
	}
}

func summarizeCommerce(p *eventv1.Payload) string {
	switch k := p.GetKind().(type) {
	case *eventv1.Payload_OrderCompleted:
		o := k.OrderCompleted
		return words("ordered", o.GetOrderId(), with("for", amount(o.GetTotal(), o.GetRevenue())))
	case *eventv1.Payload_OrderRefunded:
		return words("refunded", k.OrderRefunded.GetOrderId(), with("with", amount(k.OrderRefunded.GetAmount())))
	case *eventv1.Payload_CostRecorded:
		return words("cost", amount(k.CostRecorded.GetAmount()), with("for", k.CostRecorded.GetCategory()))
	case *eventv1.Payload_OfferMade:
		o := k.OfferMade
		return words("was offered", first(o.GetName(), o.GetOfferId()), with("for", amount(o.GetAmount())))
	case *eventv1.Payload_OfferAnswered:
		if k.OfferAnswered.GetAccepted() {
			return words("took offer", k.OfferAnswered.GetOfferId())
		}
		return words("turned down offer", k.OfferAnswered.GetOfferId())
	default:
		return ""
	}
}

func summarizeMarketing(p *eventv1.Payload) string {
	switch k := p.GetKind().(type) {
	case *eventv1.Payload_TouchpointRecorded:
		t := k.TouchpointRecorded
		return words(touchpoint(t.GetKind()),
			with("by", first(t.GetMarketingChannel(), t.GetSource(), t.GetReferrerHost())), with("of", t.GetCampaign()))
	case *eventv1.Payload_ReferralMade:
		return words("brought another customer", with("by", k.ReferralMade.GetCode()))
	case *eventv1.Payload_SurveyAnswered:
		return words("answered survey", k.SurveyAnswered.GetSurveyId(), with("with", score(k.SurveyAnswered)))
	default:
		return ""
	}
}

func summarizeIdentity(p *eventv1.Payload) string {
	switch k := p.GetKind().(type) {
	case *eventv1.Payload_IdentityStated:
		return words("said who it is", with("by", k.IdentityStated.GetStatement()))
	case *eventv1.Payload_TraitsUpdated:
		return words("told", traitNames(k.TraitsUpdated.GetTraits(), "attributes"))
	case *eventv1.Payload_ConsentGranted:
		return words("allowed", k.ConsentGranted.GetPurpose(), with("by", k.ConsentGranted.GetConsentChannel()))
	case *eventv1.Payload_ConsentWithdrawn:
		return words("no longer allows", k.ConsentWithdrawn.GetPurpose(), with("by", k.ConsentWithdrawn.GetConsentChannel()))
	case *eventv1.Payload_OrganisationUpdated:
		return words("organisation", k.OrganisationUpdated.GetOrganisationId(), with("told",
			traitNames(k.OrganisationUpdated.GetTraits(), "")))
	case *eventv1.Payload_AffiliationAsserted:
		a := k.AffiliationAsserted
		return words("belongs to", first(a.GetName(), a.GetOrganisationId(), "an organisation"), with("as", a.GetRole()))
	case *eventv1.Payload_LinkAsserted:
		return words("linked", k.LinkAsserted.GetProfileId(), with("to", k.LinkAsserted.GetOtherProfileId()))
	case *eventv1.Payload_LinkRefused:
		return words("not linked", k.LinkRefused.GetProfileId(), with("to", k.LinkRefused.GetOtherProfileId()))
	case *eventv1.Payload_CustomersMerged:
		return words("customer", k.CustomersMerged.GetAbsorbedCustomerId(),
			first(with("merged into", k.CustomersMerged.GetCustomerId()), "merged"))
	case *eventv1.Payload_CustomersSplit:
		return words("customer", k.CustomersSplit.GetNewCustomerId(),
			first(with("split from", k.CustomersSplit.GetCustomerId()), "split"))
	case *eventv1.Payload_IdentifierShared:
		if !k.IdentifierShared.GetShared() {
			return words("not shared after all:", k.IdentifierShared.GetKind(), k.IdentifierShared.GetProfileId())
		}
		return words("shared by several:", k.IdentifierShared.GetKind(), k.IdentifierShared.GetProfileId())
	case *eventv1.Payload_ModelFitted:
		return words("model fitted to", strconv.FormatUint(k.ModelFitted.GetMatch().GetRecords(), 10), "customers")
	case *eventv1.Payload_DecisionRefused:
		return words("decision refused:", first(quote(k.DecisionRefused.GetReason()), k.DecisionRefused.GetCode(), "for no reason told"))
	case *eventv1.Payload_IdentityRulesChanged:
		return words("rules of who is who changed", quote(k.IdentityRulesChanged.GetReason()))
	default:
		return ""
	}
}

func callOutcome(o eventv1.CallOutcome) string {
	switch o {
	case eventv1.CallOutcome_CALL_OUTCOME_ABANDONED:
		return "abandoned"
	case eventv1.CallOutcome_CALL_OUTCOME_BUSY:
		return "busy"
	case eventv1.CallOutcome_CALL_OUTCOME_NO_ANSWER:
		return "not answered"
	case eventv1.CallOutcome_CALL_OUTCOME_FAILED:
		return "failed"
	case eventv1.CallOutcome_CALL_OUTCOME_CANCELED:
		return "canceled"
	case eventv1.CallOutcome_CALL_OUTCOME_UNSPECIFIED, eventv1.CallOutcome_CALL_OUTCOME_COMPLETED:
		return "ended"
	default:
		return "ended"
	}
}

func summarizeOperations(p *eventv1.Payload) string {
	switch k := p.GetKind().(type) {
	case *eventv1.Payload_ProjectionOperated:
		o := k.ProjectionOperated
		generation := ""
		if o.GetVersion() > 0 {
			generation = fmt.Sprintf("v%d/g%d", o.GetVersion(), o.GetGeneration())
		}
		return words("asked to", operation(o.GetOperation()), first(o.GetProjection(), "a projection"), generation, quote(o.GetReason()))
	case *eventv1.Payload_DeadLetterSkipped:
		d := k.DeadLetterSkipped
		which := "a dead letter"
		if d.GetPosition() > 0 {
			which = "dead letter " + strconv.FormatUint(d.GetPosition(), 10)
		}
		return words("skipped", which, with("of", d.GetProjection()), quote(d.GetReason()))
	default:
		return ""
	}
}

func operation(o eventv1.ProjectionOperation) string {
	switch o {
	case eventv1.ProjectionOperation_PROJECTION_OPERATION_REBUILD:
		return "rebuild"
	case eventv1.ProjectionOperation_PROJECTION_OPERATION_SWITCH_OVER:
		return "switch over"
	case eventv1.ProjectionOperation_PROJECTION_OPERATION_ROLLBACK:
		return "roll back"
	case eventv1.ProjectionOperation_PROJECTION_OPERATION_DROP:
		return "drop a generation of"
	case eventv1.ProjectionOperation_PROJECTION_OPERATION_PAUSE:
		return "pause"
	case eventv1.ProjectionOperation_PROJECTION_OPERATION_RESUME:
		return "resume"
	case eventv1.ProjectionOperation_PROJECTION_OPERATION_RETRY:
		return "retry dead letters of"
	case eventv1.ProjectionOperation_PROJECTION_OPERATION_VERIFY:
		return "verify"
	case eventv1.ProjectionOperation_PROJECTION_OPERATION_UNSPECIFIED:
		return "operate"
	default:
		return "operate"
	}
}

func touchpoint(k eventv1.TouchpointKind) string {
	switch k {
	case eventv1.TouchpointKind_TOUCHPOINT_KIND_VISIT:
		return "visit"
	case eventv1.TouchpointKind_TOUCHPOINT_KIND_IMPRESSION:
		return "saw an ad"
	case eventv1.TouchpointKind_TOUCHPOINT_KIND_CLICK:
		return "clicked an ad"
	case eventv1.TouchpointKind_TOUCHPOINT_KIND_UNSPECIFIED:
		return "touchpoint"
	default:
		return "touchpoint"
	}
}

func score(s *eventv1.SurveyAnswered) string {
	text := strconv.Itoa(int(s.GetScore()))
	if s.GetScaleMax() > 0 {
		text += " of " + strconv.Itoa(int(s.GetScaleMax()))
	}
	return text
}

// traitNames lists a few.
func traitNames(traits []*eventv1.Trait, otherwise string) string {
	const few = 3
	names := make([]string, 0, few)
	for _, t := range traits[:min(few, len(traits))] {
		names = append(names, line(t.GetName(), maxQuoted/few))
	}
	if len(names) == 0 {
		return otherwise
	}
	s := strings.Join(names, ", ")
	if len(traits) > few {
		s += ", " + ellipsis
	}
	return s
}

// amount formats the first one that is there.
func amount(amounts ...*typev1.Money) string {
	for _, m := range amounts {
		if m != nil {
			return money.Format(m)
		}
	}
	return ""
}

func span(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return d.AsDuration().Round(time.Second).String()
}

// words joins what is not empty.
func words(parts ...string) string {
	kept := parts[:0]
	for _, p := range parts {
		if p = line(p, maxPart); p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, " ")
}

// with is a preposition with its object, or nothing without one.
func with(preposition, object string) string {
	if object == "" {
		return ""
	}
	return preposition + " " + object
}

func quote(s string) string {
	if s = line(s, maxQuoted); s == "" {
		return ""
	}
	return "“" + s + "”"
}

func first(candidates ...string) string {
	for _, c := range candidates {
		if c != "" {
			return c
		}
	}
	return ""
}

// line makes text fit for one line: white space is a space, other control
// characters go, and it ends after most characters.
func line(s string, most int) string {
	plain := len(s) <= most
	for i := 0; plain && i < len(s); i++ {
		plain = s[i] >= 0x20 && s[i] < 0x7f
	}
	if plain {
		return strings.TrimSpace(s)
	}
	var b strings.Builder
	count, space := 0, false
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			continue
		}
		if count >= most {
			b.WriteString(ellipsis)
			break
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
		count++
	}
	return b.String()
}
