/// The configuration that `postern config sample` prints.
enum ConfigurationSample {
    /// A whole TOML file: what must be set stands there, what has a default stands there with it as a comment.
    static let text = ##"""
        # Postern: the configuration file. Lines that begin with # show the defaults.
        # Durations are written 30s, 5m, 12h, 7d; sizes 64M or 64MiB, 4G, or in bytes. Paths may be relative to this file's folder.
        # After a change: postern config check, then postern reload

        [milter]
        # Where the MTA finds the filter: inet:PORT@HOST, inet6:PORT@HOST or unix:/PATH.
        socket = "inet:8891@127.0.0.1"
        # socket_mode = "0660"            # of a unix socket: the MTA's user must be able to write to it
        # max_connections = 10000         # from MTAs at once; the recipients of further ones are deferred
        # reload = "signal"               # at postern reload or SIGUSR1; "auto": also when this file has changed

        [relay]
        # The domains that this gateway takes mail for. All others are refused, but from trusted clients.
        domains = ["example.com", "example.org"]
        # domains_from = ["/etc/postfix/relay_domains"]   # tables; their left sides count. Of other kinds of tables:
        #                 "transport:/etc/postfix/transport", "access:/etc/mail/access", "mailertable:/etc/mail/mailertable"
        # domains_from_index = false      # true: those too that the sync found in a directory, where it runs elsewhere
        # subdomains = false              # true: sub-domains of these too
        # trusted_networks = ["127.0.0.0/8", "::1/128"]   # clients that may relay
        # trust_authenticated = true      # so may clients that have logged in

        [recipients]
        # always = ["postmaster", "abuse"]   # local parts that every relay domain accepts
        # delimiter = "+"                 # user+detail is judged as user; "" turns it off
        # blocked = ["old-list@example.com"]   # refused, whatever the sources say
        # batv = false                    # true: prvs=1234abcdef=user is judged as user
        # srs = false                     # true: bounces to SRS0=...=user, as a forwarder behind this gateway writes, are accepted
        # Regular expressions, looked for in the whole address in small letters; the first that matches counts.
        # patterns = [{ match = '^lst-[0-9]+@example\.com$', action = "accept" }]   # or "block"

        # Settings for one domain. The keys of [policy], [recipients] delimiter, batv and srs may stand here, too.
        # [[domain]]
        # name = "example.org"
        # catch_all = true                # accept every recipient
        # mode = "observe"                # judge and log, but refuse nothing
        # subdomains = true               # its sub-domains as itself
        # blocked = ["old-list"]          # local parts, or addresses there; beside those of [recipients]
        # replies = { unknown = "550 5.1.1 Nobody of that name at {domain}" }
        # [[domain]]
        # name = "example.com"
        # alias_of = "example.org"        # its recipients are those of another relay domain

        [policy]
        # Begin with "observe": nothing is refused, and `postern report` shows what would have been.
        mode = "enforce"
        # index_missing = "tempfail"      # no index yet: "tempfail" or "accept"
        # index_stale = "keep"            # index older than index.max_age: "keep" refusing, "tempfail" or "accept"
        # internal_only = "reject"        # or "unknown": hide that the recipient exists
        # unlisted_sender = "report"      # or "defer": a recipient that has sent through this gateway isn't rejected
        # disabled = "unknown"            # or "reject": tell that the mailbox is disabled

        [harvest]
        # limit = 50                      # unknown recipients for each client network and window; 0 turns it off
        # window = "10m"
        # ipv4_prefix = 32
        # ipv6_prefix = 64
        # exempt = []                     # networks that it doesn't hold for, such as ["198.51.100.0/24"]
        # tarpit = "0s"                   # how long "user unknown" is held back, at most 8s: guessing takes them time
        # tarpit_limit = 50               # how many such replies wait at once, each with a process of the MTA's

        [replies]
        # {recipient}, {domain} and {client} are filled in. Also: relay, syntax, blocked, harvest, no_index, stale_index,
        # internal, disabled, leaving, unlisted_sender.
        # unknown = "550 5.1.1 <{recipient}>: Recipient address rejected: User unknown"
        # While migrating, unknown may be 450: such recipients are deferred until the list is known to be whole.

        [index]
        # path = "/var/lib/postern/recipients.index"
        # max_age = "7d"                  # "0s": no limit

        [sync]
        # state = "/var/lib/postern/sync.sqlite"
        # interval = "5m"
        # max_shrink = "10%"              # a sync that would drop more is refused, and the old index stays; what counts is
        # shrink_window = "24h"           # what has gone within this time, of all, of each source and of each domain
        # grace = "10m"                   # a recipient that goes is deferred so long, then rejected; "0s": rejected at once
        # minimum = 1                     # so is one that would leave fewer recipients than this
        # canaries = ["ceo@example.com"]  # and one in which any of these is missing
        # deadline = "30m"                # for reading one source; then its last list stays

        # Where the recipients come from; any number of sources.
        [[source]]
        name = "recipients"
        type = "file"
        format = "postfix"                # a Postfix table; "sendmail": access or virtusertable; "list": one address a line
        path = "/etc/postfix/relay_recipients"
        # domains = ["example.com"]       # the source may feed these only; default: all relay domains

        # A program's standard output; it runs at every sync.interval, and counts only if it ends with status 0.
        # [[source]]
        # name = "hr"
        # type = "command"
        # command = ["/usr/local/bin/list-recipients", "--all"]   # no shell is between
        # format = "list"
        # timeout = "60s"
        # max_size = "256MiB"             # also written 256M, or in bytes

        # Active Directory: users with their mailboxes, groups, contacts, public folders, by their proxyAddresses.
        # [[source]]
        # name = "headquarters"
        # type = "active-directory"       # "openldap"; "ldap": any other server
        # uris = ["ldaps://dc1.corp.example", "ldaps://dc2.corp.example"]   # in the order in which they are tried
        # bases = ["dc=corp,dc=example"]  # default: what the server names as its own
        # exclude_bases = ["ou=service,dc=corp,dc=example"]
        # filter = "(proxyAddresses=*)"   # in place of the kind's own
        # exclude_filter = "(msExchHideFromAddressLists=TRUE)"
        # attributes = ["proxyAddresses"] # for "openldap" and "ldap": mail, mailLocalAddress, mailAlternateAddress
        # bind_dn = "postern@corp.example"
        # password_file = "/etc/postern/ldap.secret"   # its first line; mode 0600
        # sasl = "gssapi"                 # instead: Kerberos, with keytab = "/etc/postern/krb5.keytab"; "external" for ldapi://
        # starttls = false                # for ldap://
        # ca_file = "/etc/postern/ca.pem" # default: the authorities of the system
        # verify_certificate = true
        # allow_plaintext = false         # true: the password may cross the network in clear
        # include_disabled = true         # disabled accounts; false: left out, "mark": policy.disabled decides
        # disabled_attribute = "userAccountControl&2"   # or ["employeeType=*", "accountExpires<now"]: one that holds is enough
        # internal_only_attribute = "msExchRequireAuthToSendTo"   # such recipients are for trusted clients only
        # accepted_domains = false        # true: Exchange's accepted domains are relay domains too
        # relay_domains_attribute = "associatedDomain"   # in other directories, with relay_domains_bases, _filter
        # incremental = "auto"            # how changes are followed: "dirsync", "usn"; OpenLDAP: "sync"; "off"
        # push = true                     # let the server tell of changes by itself
        # reconcile = "1d"                # read all of it again, in case a change was missed
        # timeout = "30s"                 # for every answer of the server
        # page_size = 1000
        # follow_referrals = false

        [log]
        # database = "/var/lib/postern/rejections.sqlite"
        # retention = "90d"
        # lines = true                    # a line for each refusal in the messages of postern serve, as in Postfix's log
        # redact = false                  # true: hides local parts in these lines and on the live page
        # Refusals one by one; older ones are in the report's figures and lists only. The oldest go sooner where the database
        # would grow over max_size ("0": no limit).
        # detail_retention = "30d"
        # max_size = "4GiB"

        [http]
        # Metrics for Prometheus, and a live page: http://127.0.0.1:8892/ shows this machine's users the newest refusals.
        listen = "127.0.0.1:8892"         # "", the default: nowhere

        """##
}
