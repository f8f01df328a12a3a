package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parleyhq/parley/pkg/event"
	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
	interactionv1 "github.com/parleyhq/parley/proto/gen/parley/interaction/v1"
)

// typeAliases are short names of the types that are sent most by hand, with
// the channel that they travel on unless --channel says another one.
var typeAliases = map[string]struct{ typ, channel string }{
	"page":     {"parley.page.viewed", "web"},
	"screen":   {"parley.screen.viewed", "web"},
	"track":    {"parley.tracked", "web"},
	"form":     {"parley.form.submitted", "web"},
	"identify": {"parley.traits.updated", "web"},
	"order":    {"parley.order.completed", "web"},
	"refund":   {"parley.order.refunded", "web"},
	"chat":     {"parley.chat.message_posted", "chat"},
	"email":    {"parley.email.received", "email"},
	"call":     {"parley.call.ended", "phone"},
	"activity": {"parley.activity.logged", "in_person"},
}

// sendFlags describe an interaction.
type sendFlags struct {
	typ, json                         string
	set, traits                       []string
	channel, direction, conversation  string
	sourceID, occurred                string
	email, phone, userID, anonymousID string
	backfill                          bool
}

func (a *App) sendCommand() *cobra.Command {
	c := &client{app: a}
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send",
		Short: "Record an interaction by hand",
		Long: `Records one interaction and prints where it is now, with the token by which a
read sees it. With --type the fields of its payload come from --set and --json;
without it --json is the whole interaction as InteractionService.Record takes it.

Types: ` + strings.Join(slices.Sorted(maps.Keys(typeAliases)), ", ") + `,
or any of the catalogue, for example parley.survey.answered.`,
		Example: `  parley send --type page --anonymous-id b1 --set path=/pricing --set title=Pricing
  parley send --type identify --anonymous-id b1 --user-id 4711 --email ada@example.com --trait name=Ada
  parley send --type track --user-id 4711 --set name='Plan Chosen' --set propertiesJson='{"plan":"pro"}'
  parley send --type order --user-id 4711 --json '{"orderId":"A-1","total":{"currencyCode":"EUR","units":"40"}}'
  parley send --json @interaction.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := f.interaction(a)
			if err != nil {
				return err
			}
			return c.ask(cmd.Context(), func(ctx context.Context, conn *grpc.ClientConn) error {
				resp, err := interactionv1.NewInteractionServiceClient(conn).Record(ctx, &interactionv1.RecordRequest{Interaction: in})
				if err != nil {
					return err
				}
				return a.sent(c, resp)
			})
		},
	}
	c.bind(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.typ, "type", "", "what happened, see above")
	fl.StringVar(&f.json, "json", "", "the payload, or without --type the whole interaction, as `JSON`; @file or @- reads it")
	fl.StringArrayVar(&f.set, "set", nil, "a `field=value` of the payload; may be repeated")
	fl.StringArrayVar(&f.traits, "trait", nil, "a `name=value` that became known (type identify); may be repeated")
	fl.StringVar(&f.channel, "channel", "", "how it travelled, for example web, phone, in_person")
	fl.StringVar(&f.direction, "direction", "inbound", "which `way`: inbound, outbound or none")
	fl.StringVar(&f.conversation, "conversation", "", "`key` of the conversation")
	fl.StringVar(&f.sourceID, "source-id", "", "your own `id` of it: a repetition then is recognised")
	fl.StringVar(&f.occurred, "occurred", "", "when it happened, a `time`, or 5m for so long ago; now unless given")
	fl.StringVar(&f.email, "email", "", "e-mail `address` of the customer")
	fl.StringVar(&f.phone, "phone", "", "phone `number` of the customer")
	fl.StringVar(&f.userID, "user-id", "", "user `id` of the customer")
	fl.StringVar(&f.anonymousID, "anonymous-id", "", "anonymous `id` of the customer's device")
	fl.BoolVar(&f.backfill, "backfill", false, "mark as imported history: folded, never acted upon")
	return cmd
}

func (a *App) sent(c *client, resp *interactionv1.RecordResponse) error {
	if c.json() {
		if err := printJSON(a.Stdout, resp, false); err != nil {
			return err
		}
	} else {
		p := page{loc: a.Location}
		r := resp.GetResult()
		var rows [][]string
		for _, row := range [][]string{
			{"outcome", enum(r.GetOutcome().String(), "RECORD_OUTCOME_")}, {"event", r.GetEventId()}, {"stream", r.GetStream()},
			{"position", strconv.FormatUint(r.GetPosition(), 10)}, {"reason", r.GetReason()}, {"token", resp.GetConsistencyToken()},
		} {
			if row[1] != "" && row[1] != "0" {
				rows = append(rows, row)
			}
		}
		p.table("", []string{"RESULT", ""}, rows)
		if err := write(a.Stdout, p.b.String()); err != nil {
			return err
		}
	}
	switch resp.GetResult().GetOutcome() {
	case interactionv1.RecordOutcome_RECORD_OUTCOME_REFUSED, interactionv1.RecordOutcome_RECORD_OUTCOME_QUARANTINED:
		return fmt.Errorf("it was not recorded: %s", resp.GetResult().GetReason())
	case interactionv1.RecordOutcome_RECORD_OUTCOME_UNSPECIFIED, interactionv1.RecordOutcome_RECORD_OUTCOME_RECORDED,
		interactionv1.RecordOutcome_RECORD_OUTCOME_DUPLICATE:
	}
	return nil
}

// interaction makes what the flags describe.
func (f *sendFlags) interaction(a *App) (*interactionv1.Interaction, error) {
	text, err := f.jsonText(a)
	if err != nil {
		return nil, err
	}
	in := &interactionv1.Interaction{}
	if f.typ == "" {
		if text == "" {
			return nil, usagef("say what happened: --type, or the whole interaction as --json")
		}
		if len(f.set) > 0 || len(f.traits) > 0 {
			return nil, usagef("--set and --trait need --type")
		}
		if err := protojson.Unmarshal([]byte(text), in); err != nil {
			return nil, usagef("--json: %w", err)
		}
	} else if err := f.payload(in, text); err != nil {
		return nil, err
	}
	return in, f.envelope(a, in)
}

func (f *sendFlags) jsonText(a *App) (string, error) {
	name, file := strings.CutPrefix(f.json, "@")
	if !file {
		return f.json, nil
	}
	const most = 4 << 20 // more than any interaction may have
	r := a.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", usagef("--json: %w", err)
		}
		defer func() { _ = file.Close() }() // it was only read
		r = file
	}
	text, err := io.ReadAll(io.LimitReader(r, most))
	if err != nil {
		return "", fmt.Errorf("--json: read: %w", err)
	}
	return string(text), nil
}

// payload fills the interaction's payload from --type, --json, --set and --trait.
func (f *sendFlags) payload(in *interactionv1.Interaction, text string) error {
	typ, channel := f.typ, ""
	if alias, ok := typeAliases[typ]; ok {
		typ, channel = alias.typ, alias.channel
	} else if !strings.HasPrefix(typ, "parley.") {
		typ = "parley." + typ
	}
	p, ok := event.NewPayload(typ)
	if !ok {
		return usagef("--type %s: there is no such type; there are %s, and %s", f.typ,
			strings.Join(slices.Sorted(maps.Keys(typeAliases)), ", "), strings.Join(event.Types(), ", "))
	}
	in.Payload, in.Channel = p, channel
	m := body(p)
	if text != "" {
		if err := protojson.Unmarshal([]byte(text), m); err != nil {
			return usagef("--json: %w", err)
		}
	}
	for _, s := range f.set {
		if err := setField(m, s); err != nil {
			return err
		}
	}
	if len(f.traits) == 0 {
		return nil
	}
	t, ok := m.(*eventv1.TraitsUpdated)
	if !ok {
		return usagef("--trait is for --type identify")
	}
	for _, s := range f.traits {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return usagef("--trait %s: want name=value", s)
		}
		t.Traits = append(t.Traits, &eventv1.Trait{Name: name, ValueJson: jsonValue(value)})
	}
	if t.GetProvenance() == eventv1.TraitProvenance_TRAIT_PROVENANCE_UNSPECIFIED {
		t.Provenance = eventv1.TraitProvenance_TRAIT_PROVENANCE_STATED
	}
	return nil
}

// body is the message that a payload holds.
func body(p *eventv1.Payload) proto.Message {
	m := p.ProtoReflect()
	set := m.WhichOneof(m.Descriptor().Oneofs().ByName("kind"))
	return m.Mutable(set).Message().Interface()
}

// setField sets one field from `field=value`. What is no text is given as JSON.
func setField(m proto.Message, pair string) error {
	name, value, ok := strings.Cut(pair, "=")
	if !ok {
		return usagef("--set %s: want field=value", pair)
	}
	fields := m.ProtoReflect().Descriptor().Fields()
	fd := fields.ByJSONName(name)
	if fd == nil {
		fd = fields.ByTextName(name)
	}
	if fd == nil {
		names := make([]string, fields.Len())
		for i := range names {
			names[i] = fields.Get(i).JSONName()
		}
		return usagef("--set %s: there is no such field; there are %s", name, strings.Join(names, ", "))
	}
	raw := []byte(value)
	plain := fd.Kind() == protoreflect.StringKind || fd.Kind() == protoreflect.EnumKind
	if (plain && !fd.IsList()) || !json.Valid(raw) {
		quoted, err := json.Marshal(value)
		if err != nil {
			return usagef("--set %s: %w", name, err)
		}
		raw = quoted
	}
	part := m.ProtoReflect().New().Interface()
	object := bytes.Join([][]byte{[]byte(`{"` + fd.JSONName() + `":`), raw, []byte("}")}, nil)
	if err := protojson.Unmarshal(object, part); err != nil {
		return usagef("--set %s: %w", name, err)
	}
	proto.Merge(m, part)
	return nil
}

// jsonValue is a value as JSON text: as it is where it is JSON, else as a string.
func jsonValue(value string) string {
	if json.Valid([]byte(value)) {
		return value
	}
	quoted, err := json.Marshal(value)
	if err != nil { // a string always has a JSON form
		return "null"
	}
	return string(quoted)
}

// envelope fills what stands around the payload.
func (f *sendFlags) envelope(a *App, in *interactionv1.Interaction) error {
	if f.channel != "" {
		in.Channel = f.channel
	}
	if in.GetChannel() == "" {
		return usagef("--channel: say how it travelled, for example web, phone, in_person")
	}
	switch f.direction {
	case "inbound":
		if in.GetDirection() == eventv1.Direction_DIRECTION_UNSPECIFIED {
			in.Direction = eventv1.Direction_DIRECTION_INBOUND
		}
	case "outbound":
		in.Direction = eventv1.Direction_DIRECTION_OUTBOUND
	case "none":
		in.Direction = eventv1.Direction_DIRECTION_UNSPECIFIED
	default:
		return usagef("--direction %s: there are inbound, outbound and none", f.direction)
	}
	if f.conversation != "" {
		in.Conversation = f.conversation
	}
	if f.sourceID != "" {
		in.SourceId = f.sourceID
	}
	in.Backfill = in.GetBackfill() || f.backfill
	at, err := a.when("occurred", f.occurred)
	if err != nil {
		return err
	}
	if at != nil {
		in.OccurredTime = at
	}
	for _, i := range []struct{ kind, value string }{
		{"user_id", f.userID}, {"email", f.email}, {"phone", f.phone}, {"anonymous_id", f.anonymousID},
	} {
		if i.value != "" {
			in.Identifiers = append(in.Identifiers, &eventv1.Identifier{Kind: i.kind, Value: i.value})
		}
	}
	return nil
}
