package quotation

import "strings"

// The tables below hold what mail programs write in the languages they are
// shipped in: English, German, French, Spanish, Italian, Portuguese, Dutch,
// Polish, Swedish, Norwegian, Danish, Finnish, Czech, Hungarian, Russian,
// Ukrainian, Turkish, Vietnamese, Japanese, Chinese and Korean. All is in lower
// case; a table is a list of entries with "|" between.

func set(lists ...string) map[string]bool {
	m := make(map[string]bool)
	for _, list := range lists {
		for entry := range strings.SplitSeq(list, "|") {
			m[entry] = true
		}
	}

	return m
}

// verbs are the words that say that somebody wrote, for scripts with spaces.
var verbs = set(
	"wrote|writes|said|says|mentioned|writeth",
	"schrieb|schrieben|schreibt|geschrieben",
	"écrit|ecrit|écrivait",
	"escribió|escribio|escribe|escrito",
	"scritto|scrive|scrisse",
	"escreveu|escrito|escreve",
	"schreef|geschreven|schrijft",
	"napisał|napisała|napisali|pisze|napisal|napisala",
	"skrev|skriver|skreiv",
	"kirjoitti|kirjoittaa",
	"napsal|napsala|napísal|napísala",
	"írta|irta|írja",
	"написал|написала|написали|писал|писала|пишет",
	"написав|написала|пише|писав",
	"yazdı|yazdi|yazmış",
	"viết",
)

// verbSigns are the same for scripts and languages that glue the verb to others.
var verbSigns = []string{"写道", "寫道", "写到", "書きました", "のメッセージ", "作成", "작성", "썼습니다", "写了", "寫了"}

// starters are the first words of a heading above a quotation. They
// count only together with a date, an address or a verb.
var starters = set(
	"on|at|in|quoting|once|according|from",
	"am|zitat|zitiere|von",
	"le|selon|dans",
	"el|citando|en|con",
	"il|in|da|nel",
	"em|no|a|citando",
	"op",
	"w|dnia|użytkownik",
	"den|på|pe",
	"dne",
	"v|в|от",
	"у|від|о",
	"vào|ngày",
	"mon|tue|wed|thu|fri|sat|sun|monday|tuesday|wednesday|thursday|friday|saturday|sunday",
	"mo|mi|do|fr|sa|so|montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag",
	"lun|mar|mer|jeu|ven|sam|dim|mié|jue|vie|sáb|dom|gio|sab|lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche|seg|ter|qua|qui|sex",
	"ma|di|wo|vr|za|zo|pon|wt|śr|czw|pt|sob|niedz|mån|tis|ons|tors|fre|lör|sön|man|tir|tor|lør|søn|ti|ke|to|pe|la|su|po|út|st|čt|pá|ne",
	"пн|вт|ср|чт|пт|сб|вс|нд|понедельник|вторник|среда|четверг|пятница|суббота|воскресенье",
)

// starterSigns are the same for scripts without spaces.
var starterSigns = []string{"在", "于", "於"}

// ownWords are the words by which a sender speaks of what he wrote himself.
var ownWords = set("i|we|ich|wir|j|je|nous|yo|io|eu|ik|wij|ja|jag|jeg|minä|já|én|я|ми|мы|tôi")

type label uint8

const (
	// labelUnread: nobody looked yet.
	labelUnread label = iota
	labelNone
	labelFrom
	labelDate
	labelTo
	labelSubject
	// labelOther are those that say nothing on their own.
	labelOther
)

// labels are the names of the fields that mail programs put above a copied mail.
var labels = func() map[string]label {
	m := make(map[string]label)
	for l, lists := range map[label][]string{
		labelFrom: {
			"from|von|de|expéditeur|da|van|od|från|fra|lähettäjä|feladó|от|от кого|від|від кого|kimden|gönderen|từ",
			"差出人|送信者|发件人|發件人|寄件者|寄件人|보낸 사람|보낸사람|发送人|remitente|mittente|remetente|afzender|nadawca|absender",
		},
		labelDate: {
			"sent|date|sent on|date sent|gesendet|gesendet am|datum|envoyé|envoyé le|date d'envoi|enviado|enviado el|enviada|enviado em|enviada em|fecha|fecha de envío|data|inviato|data invio",
			"verzonden|verzonden op|wysłano|wysłane|data wysłania|skickat|skickat den|sendt|dato|lähetetty|päiväys|päivämäärä|odesláno|küldve|küldés dátuma|elküldve|dátum|időpont",
			"отправлено|дата|надіслано|відправлено|gönderildi|gönderilme tarihi|gönderim tarihi|gönderme tarihi|gönderilen|tarih|đã gửi|ngày|gửi|送信日時|日時|日付|发送时间|發送時間|发送日期|寄件日期|傳送時間|日期|时间|時間|보낸 날짜|보낸날짜|날짜|전송",
		},
		labelTo: {
			"to|an|empfänger|à|a|pour|para|destinatario|per|aan|do|komu|till|til|vastaanottaja|címzett|кому|kime|alıcı|đến|tới|宛先|收件人|收件者|받는 사람|받는사람",
		},
		labelSubject: {
			"subject|betreff|objet|sujet|asunto|oggetto|assunto|onderwerp|temat|ämne|emne|aihe|předmět|predmet|tárgy|тема|konu|chủ đề|tiêu đề|件名|主题|主題|主旨|제목",
		},
		labelOther: {
			"cc|bcc|kopie|kopie (cc)|copie à|copie|cci|copia|ccn|cópia|c/c|dw|udw|kopia|kopi|kopio|tiedoksi|kopia till|másolat|másolatot kap|копия|копія|копия (cc)|bilgi|đồng gửi|抄送|副本|ccc|참조",
			"reply-to|reply to|antwort an|antworten an|répondre à|responder a|rispondi a|antwoord aan|ответить|odpowiedz do|importance|wichtigkeit|priority|priorität|attachments|anlagen|attach|message-id|newsgroups|organization|resent-from|resent-to|mailed by|on behalf of",
		},
	} {
		for name := range set(lists...) {
			m[name] = l
		}
	}

	return m
}()

// originalMessage are the words on a line of dashes above a copied mail. They
// head replies and forwards alike.
var originalMessage = set(
	"original message|original email|original mail|original appointment|reply message|replied message|previous message|message",
	"ursprüngliche nachricht|originalnachricht|original-nachricht|original nachricht|ursprungliche nachricht|originaltermin|original-mail|ursprüngliche mail",
	"message d'origine|message original|message initial|courriel original|mail original",
	"mensaje original|correo original|mensagem original|e-mail original",
	"messaggio originale|messaggio originario",
	"oorspronkelijk bericht|origineel bericht|originele bericht|oorspronkelijk e-mailbericht",
	"wiadomość oryginalna|oryginalna wiadomość|oryginalny list|pierwotna wiadomość",
	"ursprungligt meddelande|originalmeddelande|ursprungsmeddelande",
	"opprinnelig melding|original melding|oprindelig meddelelse|original meddelelse|oprindelig besked|den oprindelige meddelelse",
	"alkuperäinen viesti|původní zpráva|původní e-mail|eredeti üzenet|eredeti levél",
	"исходное сообщение|исходное письмо|оригинальное сообщение|первоначальное сообщение",
	"вихідне повідомлення|оригінальне повідомлення|оригінал повідомлення|початкове повідомлення",
	"orijinal mesaj|özgün ileti|orijinal ileti|özgün mesaj|thư gốc|tin nhắn gốc|thông báo gốc",
	"元のメッセージ|元のメール|オリジナルメッセージ|原始邮件|原始郵件|原郵件|原邮件|回复的原邮件|邮件原件|原始信件|원본 메시지|원본 메일|원래 메시지|원본메시지",
)

// forwarded are the words that head a forwarded message, on a line of dashes or
// alone before a colon.
var forwarded = set(
	"forwarded message|begin forwarded message|forwarded email|forwarded mail|begin forwarded text|begin forward|fwd message|start of forwarded message|forwarded text|forwarded conversation",
	"weitergeleitete nachricht|anfang der weitergeleiteten nachricht|anfang der weitergeleiteten e-mail|weitergeleitete mail|weitergeleitete e-mail|weitergeleiteter text",
	"message transféré|message transmis|début du message transféré|début du message réexpédié|courriel transféré|mail transféré",
	"mensaje reenviado|inicio del mensaje reenviado|correo reenviado",
	"messaggio inoltrato|inizio messaggio inoltrato|inizio del messaggio inoltrato",
	"mensagem encaminhada|mensagem reencaminhada|início da mensagem encaminhada|início da mensagem reencaminhada|inicio da mensagem encaminhada",
	"doorgestuurd bericht|begin doorgestuurd bericht|begin van doorgestuurd bericht|doorgestuurde e-mail",
	"wiadomość przekazana dalej|przekazana wiadomość|przekazany list|treść przekazanej wiadomości|początek przekazywanej wiadomości|początek przekazanej wiadomości|wiadomość przekazana",
	"vidarebefordrat meddelande|vidarebefordrat brev|vidarebefordrade meddelandet|vidarebefordrat mejl|början av vidarebefordrat mejl|vidarebefordrat e-postmeddelande",
	"videresendt melding|videresendt e-post|start på videresendt melding|begynnelse på videresendt melding|videresendt meddelelse|videresendt besked|videresendt mail|start på videresendt besked|påbegynd videresendt besked",
	"välitetty viesti|edelleenlähetetty viesti|edelleen lähetetty viesti|välitetty viesti alkaa|aloitetaan välitetty viesti",
	"přeposlaná zpráva|přeposílaná zpráva|začátek přeposílané zprávy|předaná zpráva|přeposlaný e-mail",
	"továbbított üzenet|továbbított levél|továbbított üzenet eleje|továbbított e-mail",
	"пересылаемое сообщение|пересланное сообщение|переадресованное сообщение|начало переадресованного сообщения|пересылаемое письмо|пересланное письмо|начало пересылаемого сообщения",
	"переслане повідомлення|пересилане повідомлення|початок листа, що пересилається|початок пересланого повідомлення|переслане письмо|переадресоване повідомлення|пересланий лист",
	"yönlendirilen mesaj|iletilen mesaj|iletilmiş mesaj|yönlendirilmiş ileti|yönlendirilen ileti|iletilen ileti|iletilmiş ileti|i̇letilmiş mesaj|i̇letilen mesaj|i̇letilmiş ileti|i̇letilen ileti",
	"thư đã chuyển tiếp|tin nhắn đã chuyển tiếp|thư được chuyển tiếp|bắt đầu thư được chuyển tiếp|chuyển tiếp thư|thông báo được chuyển tiếp",
	"転送メッセージ|転送されたメッセージ|転送されたメール|転送メール|転送されたメッセージ開始|以下は転送されたメールです",
	"转发的邮件|转发邮件|转发邮件信息|转发的消息|开始转发的邮件|下面是被转发的邮件|被转发的邮件|轉寄郵件|轉寄的郵件|開始轉寄郵件|轉寄信件|以下為轉寄的郵件",
	"전달된 메시지|전달된 메일|전달된 메세지|다음은 전달된 메시지입니다|전달한 메시지",
)

// forwardedBy begin a heading that goes on with a name, between dashes.
var forwardedBy = []string{"forwarded by ", "forwarded message from ", "forwarded from ", "weitergeleitet von ", "transféré par ", "reenviado por ", "inoltrato da ", "encaminhado por ", "doorgestuurd door ", "przesłane przez ", "vidarebefordrat av ", "videresendt av ", "videresendt af ", "přeposláno uživatelem ", "переслано "}

// replyAbove stand in the line above which a help desk asks to answer.
var replyAbove = []string{
	"reply above this line", "reply above the line", "reply above this text", "type your reply above", "write a reply above", "write your reply above", "respond above this line", "above this line to reply", "reply only above this line", "please reply above",
	"oberhalb dieser zeile", "über dieser linie", "über dieser zeile",
	"au-dessus de cette ligne", "au dessus de cette ligne",
	"por encima de esta línea", "encima de esta línea", "arriba de esta línea", "sobre esta línea",
	"sopra questa riga", "sopra questa linea", "acima desta linha",
	"boven deze regel", "boven deze lijn", "nad tą linią", "powyżej tej linii", "ovanför denna rad", "ovanför den här raden", "over denne linjen", "over denne linje", "tämän rivin yläpuolelle", "nad tento řádek", "nad touto čarou", "nad tímto řádkem", "a sor fölé", "e fölé a sor fölé",
	"выше этой строки", "выше этой линии", "вище цього рядка", "вище цієї лінії", "bu satırın üstüne", "bu satırın üzerine", "phía trên dòng này", "この行より上", "この線より上", "在此行上方", "在此行之上", "请在此行以上", "이 줄 위에",
}
