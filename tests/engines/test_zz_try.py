import time, trio, contextlib
from tests.redis_engines import *
from triocast.core.presence import *
from triocast.core.identity import Identity
from triocast.inbox import Inbox
from triocast.engines import Nobody
class H(Nobody):
    def __init__(s): s.n=[]
    def noticed(s,g,ch,*,occupied,vacated): s.n+= [("occ",g)]*occupied+[(g,c) for c in ch]+[("vac",g)]*vacated
async def test_try(valkey):
    a,b=engine_at(valkey.port),engine_at(valkey.port)
    ha,hb=H(),H()
    async with trio.open_nursery() as n:
        await n.start(a.run,ha); await n.start(b.run,hb)
        inbox=Inbox(10); inbox.notices.arouse=lambda: None
        async with b.subscribe("g",inbox):
            a.enter("g",Member("c1",Identity("ann",b'{"x":1}'))); b.enter("g",Member("c2"))
            await eventually(lambda: len(ha.n)+len(hb.n)>=3)
            print(await a.members("g",None,10)); print(await b.members("g",None,1)); print(await b.members("g","c1",1))
            a.depart("g","c1",Reason.REMOVED)
            await eventually(lambda: len(ha.n)+len(hb.n)>=4)
            print(ha.n,hb.n); print(inbox.notices.take("g"))
            t=time.time()
            for i in range(1000): a.enter("g",Member(f"m{i:04}"))
            print("enter", time.time()-t)
            while (await a.members("g",None,1)).count<1001: pass
            print("1000 joins", time.time()-t)
            print(valkey.admin.info("commandstats").get("cmdstat_evalsha"))
            n.cancel_scope.cancel()
    print(ha.n[-3:],hb.n)
    print(valkey.admin.keys("*"))
