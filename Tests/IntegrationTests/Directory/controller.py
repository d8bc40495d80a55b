"""What a private Samba domain controller needs that LDAP can't do, by Samba's own Python modules.

    controller.py provision CONF FOLDER HOST REALM ADMINPASSWORD EXCHANGE_LDIF
    controller.py account CONF DN NAME PASSWORD OU  a plain user, its unit, and another unit
    controller.py objects CONF DN CLASS COUNT       CLASS0 and on, below DN
    controller.py grant CONF DN NAME ACE            ACE is in SDDL, with SID for the account's
    controller.py revoke CONF DN NAME               all that was granted
    controller.py identity CONF                     another invocation id, as another controller of the domain has
"""

import logging
import sys
import uuid

import ldb
from samba.auth import system_session
from samba.dcerpc import misc, security
from samba.dsdb import DS_DOMAIN_FUNCTION_2008_R2
from samba.ndr import ndr_pack, ndr_unpack
from samba.param import LoadParm
from samba.samdb import SamDB


def settings(conf):
    lp = LoadParm()
    lp.load(conf)
    return lp


def directory(conf):
    lp = settings(conf)
    return SamDB(url=lp.samdb_url(), session_info=system_session(lp), lp=lp)


def provision(conf, folder, host, realm, password, exchange):
    from samba.provision import provision as provision_domain

    lp = settings(conf)
    # Without the access rules of shared files, which not every file system and container can hold.
    provision_domain(
        logging.getLogger(), system_session(lp), targetdir=folder, realm=realm, domain=realm.split(".")[0],
        hostname=host, hostip="127.0.0.1", adminpass=password, serverrole="active directory domain controller",
        dns_backend="NONE", dom_for_fun_level=DS_DOMAIN_FUNCTION_2008_R2, lp=lp, skip_sysvolacl=True)
    sam = SamDB(url=folder + "/private/sam.ldb", session_info=system_session(lp), lp=lp)
    with open(exchange, encoding="utf-8") as file:
        sam.modify_ldif(file.read().replace("BASE", str(sam.domain_dn())))


def account(conf, dn, name, password, unit):
    sam = directory(conf)
    for parent in (str(ldb.Dn(sam, dn).parent()), unit):
        sam.add({"dn": parent, "objectClass": "organizationalUnit"})
    # A normal account whose password doesn't expire.
    sam.add({
        "dn": dn, "objectClass": "user", "sAMAccountName": name, "userAccountControl": "66048",
        "userPrincipalName": name + "@" + sam.domain_dns_name(),
        "unicodePwd": ('"%s"' % password).encode("utf-16-le")})


def objects(conf, dn, kind, count):
    sam = directory(conf)
    sam.transaction_start()
    for number in range(int(count)):
        name = "%s%d" % (kind, number)
        entry = {
            "dn": "CN=%s,%s" % (name, dn), "objectClass": kind, "mailNickname": name,
            "proxyAddresses": "SMTP:%s@example.com" % name}
        if kind in ("user", "group"):
            entry["sAMAccountName"] = name
        sam.add(entry)
    sam.transaction_commit()


def change_rights(conf, dn, name, change):
    sam = directory(conf)
    found = sam.search(expression="(sAMAccountName=%s)" % name, attrs=["objectSid"])[0]
    sid = ndr_unpack(security.dom_sid, found["objectSid"][0])
    # The discretionary part only; the container of deleted objects is one itself.
    controls = ["show_deleted:1", "sd_flags:1:4"]
    found = sam.search(dn, ldb.SCOPE_BASE, attrs=["nTSecurityDescriptor"], controls=controls)[0]
    descriptor = change(ndr_unpack(security.descriptor, found["nTSecurityDescriptor"][0]), sid,
                        security.dom_sid(sam.get_domain_sid()))
    message = ldb.Message(ldb.Dn(sam, dn))
    message["sd"] = ldb.MessageElement(ndr_pack(descriptor), ldb.FLAG_MOD_REPLACE, "nTSecurityDescriptor")
    sam.modify(message, controls)


def grant(conf, dn, name, ace):
    def change(descriptor, sid, domain):
        sddl = descriptor.as_sddl(domain)
        start = sddl.index("(")
        return security.descriptor.from_sddl(sddl[:start] + ace.replace("SID", str(sid)) + sddl[start:], domain)

    change_rights(conf, dn, name, change)


def revoke(conf, dn, name):
    def change(descriptor, sid, domain):
        descriptor.dacl_del(sid)
        return descriptor

    change_rights(conf, dn, name, change)


def identity(conf):
    sam = directory(conf)
    message = ldb.Message(ldb.Dn(sam, sam.get_dsServiceName()))
    value = ndr_pack(misc.GUID(str(uuid.uuid4())))
    message["id"] = ldb.MessageElement(value, ldb.FLAG_MOD_REPLACE, "invocationId")
    sam.modify(message, ["relax:0"])


COMMANDS = {
    "provision": provision, "account": account, "objects": objects, "grant": grant, "revoke": revoke,
    "identity": identity}
COMMANDS[sys.argv[1]](*sys.argv[2:])
